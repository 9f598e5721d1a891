"""What stands in each column of the tree: the cells of every row as texts, longer or shorter as the layout asks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from tracecall.calls import Call, TensorSpec, Trace
from tracecall.views import labels
from tracecall.views.cells import cell_len, narrow
from tracecall.views.flows import arrows
from tracecall.views.rows import Row

UNSTEADY = "~ the middle half of its runs spans more than half of its median"
BAR = 8
GAP = "  "


class Layout(NamedTuple):
    """How much is written into the cells."""

    roomy: bool  # [1, 3, 28, 28], not [1,3,28,28]
    brief: bool  # 195K parameters, not 194,578
    everything: bool  # where the inputs came from also where that is the line above
    beside: bool  # what one of many calls took at the end of their line, not on a line of its own below it


# from the one that says most to the one that needs least room
LAYOUTS = tuple(
    Layout(roomy, brief, everything, beside)
    for beside in (True, False)
    for roomy, brief, everything in (
        (True, False, True),
        (False, False, True),
        (False, False, False),
        (False, True, False),
    )
)


class Column(NamedTuple):
    """A cell for each row, how wide the widest is, and whether each character of each takes one cell."""

    cells: list[str]
    width: int
    narrow: bool = True


def columns(trace: Trace, rows: list[Row], total: int, each: list[str]) -> Callable[[Layout], dict[str, Column]]:
    """The columns by name, from left to right, for the layout that it is called with.

    `each` is, row by row, what one of those that share the row took; "" where nothing is to be said.
    Most are the same in every layout, and none is made twice: a long trace has ten thousand cells in each.
    """
    blank = [""] * len(rows)
    shape_texts = [_shape_texts(row) for row in rows]
    shapes = functools.cache(lambda short: _column([texts[short] for texts in shape_texts]))
    device = _column([_device_text(row) for row in rows] if _elsewhere(rows) else blank)
    _, size, decimals = labels.unit(total)
    number = f"%.{decimals}f".__mod__
    time = _column([_time_text(row, total, size, number) for row in rows])
    launched = any(row.call is not None and row.call.device_ns is not None for row in rows)
    device_time = _column([_device_time_text(row, size, number) for row in rows] if launched else blank)
    bar = Column(blank, BAR if total and any(row.call is not None for row in rows) else 0)  # drawn once it has a width
    totals = labels.parameters(trace)
    counts = [_parameters(totals, row) for row in rows]
    parameters = functools.cache(lambda brief: _column(_numbers(counts, labels.brief if brief else labels.count)))
    root = trace.modules.get("")
    place = functools.cache(functools.partial(_place, root.source.file if root and root.source else None))
    line = _column([_line_text(row, place) for row in rows])
    source_texts = [_source_texts(row) for row in rows]
    sources = functools.cache(lambda news: _column([texts[news] for texts in source_texts]))
    beside = functools.cache(lambda news: _column(list(map(_beside, each, sources(news).cells))))

    def written(layout: Layout) -> dict[str, Column]:
        return {
            "shapes": shapes(not layout.roomy),
            "device": device,
            "time": time,
            "device time": device_time,
            "bar": bar,
            "parameters": parameters(layout.brief),
            "line": line,
            "from": (beside if layout.beside and any(each) else sources)(not layout.everything),
        }

    return written


def _column(cells: list[str]) -> Column:
    different = set(cells)
    whole = narrow("".join(different))
    return Column(cells, max(map(len if whole else cell_len, different), default=0), whole)


def total_time(trace: Trace) -> int:
    """The longest time of the trace, which bars and units refer to."""
    return max((call.host_ns or 0 for call in trace.calls), default=0)


def unsteady(call: Call, total: int) -> bool:
    """Whether its times differ from run to run by so much."""
    return call.host_ns is not None and varies(call.host_ns, call.spread_ns or 0, total)


def varies(ns: int, spread_ns: int, total: int) -> bool:
    """Whether a time is to be marked; of one under 1 % of the total nobody needs to know."""
    return spread_ns * 2 > ns and ns * 100 >= total


def _shape_texts(row: Row) -> tuple[str, str]:
    """The shapes with room, and where room is short; of a hook what it changed."""
    call = row.call
    if call is None or (call.fold is not None and call.fold.size > 1):
        return "", ""
    if call.kind == "hook":
        error = f"✗ {call.error.type}" if call.error else ""
        said = labels.bounded(error or ", ".join(call.changed or ["changed nothing"]))
        return said, said
    if call.error is None or not call.error.caught:
        return arrows(call)
    roomy, tight = arrows(call)
    caught = f" {labels.bounded(call.error.type)}, caught"
    return roomy + caught, tight + caught


def _elsewhere(rows: list[Row]) -> bool:
    """Whether a call gave something on an accelerator: where all is on the CPU, no column says so."""
    calls = [row.call for row in rows if row.call is not None]
    values = [value.value for call in calls for value in call.output]
    return any(value.device != "cpu" for value in values if isinstance(value, TensorSpec))


def _device_text(row: Row) -> str:
    if row.call is None:
        return ""
    before = {spec.device for spec in labels.tensors(row.call.inputs)}
    after = {spec.device for spec in labels.tensors(row.call.output)}
    if row.call.kind == "module" and before and after and before != after:
        return f"{', '.join(sorted(before))} → {', '.join(sorted(after))}"
    return ", ".join(sorted(after or before))


def _time_text(row: Row, total: int, size: float, number: Callable[[float], str]) -> str:
    call = row.call
    if call is None or call.host_ns is None:
        return ""
    text = number(call.host_ns / size)
    return f"~{text}" if call.spread_ns and unsteady(call, total) else text


def _device_time_text(row: Row, size: float, number: Callable[[float], str]) -> str:
    """In the unit of the host time beside it."""
    if row.call is None or row.call.device_ns is None:
        return ""
    return number(row.call.device_ns / size)


def _parameters(totals: dict[str, int], row: Row) -> int:
    """The parameters of a module with everything below it."""
    call = row.call
    if call is None or (call.kind != "module" and (call.fold is None or call.fold.size == 1)):
        return 0
    if call.fold is not None and not call.fold.inside:
        return sum(totals.get(path, 0) for path in call.fold.paths)
    return totals.get(call.path, 0)


def _numbers(counts: list[int], number: Callable[[int], str]) -> list[str]:
    """Numbers as text; blank for none."""
    texts = {count: number(count) if count else "" for count in set(counts)}
    return [texts[count] for count in counts]


def _line_text(row: Row, place: Callable[[str, bool], str | None]) -> str:
    """The line that made the call: ":24" in the file of the root's forward, "blocks.py:24" elsewhere."""
    call = row.call
    if call is None or call.site is None or not row.guide:
        return ""
    file = place(call.site.file, call.kind == "hook")
    return "" if file is None else f"{file}:{call.site.line}"


def _place(own: str | None, file: str, hook: bool) -> str | None:
    """How a file is written where `own` is that of the root's forward; None for torch's own, which say nothing."""
    if file == own:
        return ""
    return None if labels.of_torch(file) and not hook else labels.bounded(file.replace("\\", "/").rpartition("/")[2])


def _source_texts(row: Row) -> tuple[str, str]:
    """Where the inputs came from, "← conv1, input x", and the same where that is news."""
    if not row.sources:
        return "", ""
    source = "← " + (row.sources[0] if len(row.sources) == 1 else _several(row.sources))
    return source, "" if row.obvious else source


def _beside(each: str, source: str) -> str:
    """What one of many calls took, before what they came from: "each 0.37 (0.35–0.41)  ← conv1"."""
    return each + GAP + source if each and source else each or source


def _several(sources: list[str]) -> str:
    """Parameters stand last, and more than two of them are counted."""
    parameters = [one for one in sources if one.startswith(("parameter ", "buffer "))]
    shown = [one for one in sources if one not in parameters]
    shown += parameters if len(parameters) <= 2 else [f"{len(parameters)} parameters"]
    return ", ".join(shown)
