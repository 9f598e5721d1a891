"""Rows as lines with aligned columns: what fits the width, what is shortened, what is left out."""

from __future__ import annotations

import functools
import textwrap

from rich.cells import cell_len
from rich.text import Span, Text

from tracecall.calls import Call, Trace
from tracecall.views import labels
from tracecall.views.header import BAD, NOTE, QUIET, TIME
from tracecall.views.rows import Row

STYLES = {"device": NOTE, "time": TIME, "device time": TIME, "bar": TIME, "line": QUIET, "from": QUIET}
RIGHT = ("time", "device time", "parameters", "line")
BAR = 8
WIDEST_LABEL = 44
SHORTEST_NAME = 12
SHORTEST_SENTENCE = 30
PROSE = 88  # a longer line of prose is hard to read, however wide the terminal
SHORTEST_SOURCE = 14
GAP = "  "
HOT = "◂"


def lines(trace: Trace, rows: list[Row], width: int) -> list[Text]:
    """Rows as lines with aligned columns; where room is short, the columns that say least are left out first."""
    total = total_time(trace)
    hot = _hot_path(trace)
    for row in rows:
        row.hot = id(row.call) in hot
    calls = [row for row in rows if row.call is not None]
    devices = any(spec.device != "cpu" for row in calls if row.call for spec in labels.tensors(row.call.output))
    totals = labels.parameters(trace)
    # most columns are the same in every layout: a long trace has each made once
    same = {
        "device": [_device_text(row) if devices else "" for row in rows],
        "time": [_time_text(row, total) for row in rows],
        "device time": [_device_time_text(row, total) for row in rows],
        "bar": ["x" * BAR if row.call is not None and total else "" for row in rows],
        "line": [_line_text(trace, row) for row in rows],
    }
    shapes = functools.cache(lambda roomy: [_shape_text(row, roomy) for row in rows])
    parameters = functools.cache(lambda brief: [_parameters(totals, row, brief) for row in rows])
    sources = functools.cache(lambda everything: [_source_text(row, everything, total) for row in rows])
    each = [labels.each(row.call, total) for row in calls if row.call is not None]
    width_of = functools.cache(cell_len)
    for roomy, brief, everything in (
        (True, False, True),
        (False, False, True),
        (False, False, False),
        (False, True, False),
    ):
        columns = {
            "shapes": shapes(roomy),
            "device": same["device"],
            "time": same["time"],
            "device time": same["device time"],
            "bar": same["bar"],
            "parameters": parameters(brief),
            "line": same["line"],
            "from": sources(everything),
        }
        unit = labels.unit(total)[0]
        titles = {"time": unit, "device time": f"device {unit}", "parameters": "params"}
        widths = {name: max(map(width_of, cells), default=0) for name, cells in columns.items()}
        if widths["device time"]:
            titles["time"] = f"host {unit}"
        for name, size in widths.items():
            widths[name] = size and max(size, cell_len(titles.get(name, "")))
        widths["type"] = max((cell_len(row.type) for row in calls), default=0)
        label = max((cell_len(row.guide + row.name) for row in calls if row.type), default=0)
        # a row without a type may write its name across that column
        long = max((cell_len(row.guide + row.name) for row in calls if not row.type), default=0)
        label = max(label, min(long - (len(GAP) + widths["type"] if widths["type"] else 0), WIDEST_LABEL))
        # what may go without loss: where things came from, and most of the bar and the type
        if _needed(label, {**widths, **({} if everything else _spare(widths, each))}) <= width:
            break
    label = _fit(widths, label, width, each)
    title = Text(" " * (label + len(GAP) + widths["type"] if widths["type"] else label), QUIET)
    for name, size in widths.items():
        if size and name != "type":
            cell = titles.get(name, "")
            title.append(GAP + (cell.rjust(size) if name in RIGHT else labels.pad(cell, size)), QUIET)
    title.rstrip()
    return [
        *([title] if title.plain else []),
        *(
            line
            for i, row in enumerate(rows)
            for line in (_sentence(row, width) if row.says else [_line(row, i, columns, widths, label, total)])
        ),
    ]


def _sentence(row: Row, width: int) -> list[Text]:
    """What is said about the line above: wrapped beside the tree's lines, which go on."""
    guide = _cut_guide(row.guide, width - SHORTEST_SENTENCE)
    wrapped = textwrap.wrap(row.says, max(1, min(width, PROSE) - cell_len(guide)), break_on_hyphens=False)
    return [Text(guide + line, QUIET, no_wrap=True, overflow="ellipsis") for line in wrapped]


def total_time(trace: Trace) -> int:
    """The longest time of the trace, which bars and units refer to."""
    return max((call.host_ns or 0 for call in trace.calls), default=0)


def _hot_path(trace: Trace) -> set[int]:
    """The ids of calls on the way to where time goes: the costliest at each level, if it takes at least a quarter."""
    found: set[int] = set()
    total = total_time(trace)
    for root in trace.calls if total else ():
        inside = root.children
        while modules := [call for call in _ungrouped(inside) if call.kind == "module" and call.host_ns is not None]:
            costliest = max(modules, key=lambda call: call.host_ns or 0)
            if (costliest.host_ns or 0) * 4 < total:
                break
            found.add(id(costliest))
            inside = costliest.children
    return found


def _ungrouped(calls: list[Call]) -> list[Call]:
    """Calls, those that repeat in turn each for itself; where groups hold groups, the outer ones are opened."""
    return [
        one for call in calls for one in (call.children if call.fold is not None and call.fold.size > 1 else (call,))
    ]


def unsteady(call: Call, total: int) -> bool:
    """Whether its times differ from run to run by so much; of a call under 1 % of the total nobody needs to know."""
    return call.host_ns is not None and (call.spread_ns or 0) * 2 > call.host_ns and call.host_ns * 100 >= total


def _spare(widths: dict[str, int], each: list[str]) -> dict[str, int]:
    return {"from": max(map(cell_len, each), default=0), "bar": min(4, widths["bar"]), "type": min(12, widths["type"])}


def _needed(label: int, widths: dict[str, int]) -> int:
    return label + sum(len(GAP) + size for size in widths.values() if size)


def _brief_each(cell: str) -> str:
    """Without the range: "each 0.37"."""
    return cell.partition(" (")[0]


def _fit(widths: dict[str, int], label: int, width: int, each: list[str]) -> int:
    """Shrink or drop columns until a line fits; returns the label's width.

    What one of many calls took, `each`, stands where others say what they came from, and stays longer.
    """
    whole, brief = (max(map(cell_len, cells), default=0) for cells in (each, map(_brief_each, each)))
    for name, least in (("from", max(24, whole)), ("type", 18), ("bar", 4), ("from", max(14, whole)), ("type", 12),
                        ("from", whole), ("bar", 3), ("label", 30), ("type", 9), ("from", brief), ("bar", 0),
                        ("label", 26), ("shapes", 30), ("from", 0), ("parameters", 0), ("label", 22), ("shapes", 24),
                        ("type", 0), ("line", 0), ("device", 0), ("label", 16)):  # fmt: skip
        over = _needed(label, widths) - width
        if over <= 0:
            break
        if name == "label":
            label = max(min(label, least), label - over)
        elif least == 0:
            widths[name] = 0
        else:
            widths[name] = max(min(widths[name], least), widths[name] - over)
    return label


def _line(row: Row, i: int, columns: dict[str, list[str]], widths: dict[str, int], label: int, total: int) -> Text:
    if row.note is not None:
        row.note.no_wrap = True
        row.note.overflow = "ellipsis"
        return row.note
    parts: list[tuple[str, str]] = []
    typed = widths["type"] and row.type
    room = label if typed or not widths["type"] else label + len(GAP) + widths["type"]
    guide = _cut_guide(row.guide, room - min(SHORTEST_NAME, cell_len(row.name)))
    parts.append((guide, QUIET))
    parts.append((labels.cut_name(row.call, row.name, room - cell_len(guide)), row.style))
    if typed:
        parts.append((GAP + labels.pad(row.type, widths["type"]), QUIET))
    caught = row.call is not None and row.call.error is not None and row.call.error.caught
    for name, size in widths.items():
        if not size or name == "type":
            continue
        cell = columns[name][i]
        if name == "bar":
            share = (row.call.host_ns or 0) / total if row.call is not None and total else 0
            cell = labels.bar(share, size) if row.guide else ""
            if row.hot:
                cell = cell[: size - 1] + HOT
        elif name == "from" and cell_len(cell) > size:
            cell = _cut_source(cell, size)
        elif name in RIGHT:
            cell = " " * (size - cell_len(cell)) + cell
        elif name == "shapes" and cell_len(cell) > size:
            cell = "…" + cell[len(cell) - size + 1 :]  # the output stands at the end, and says more
        parts.append((GAP + labels.pad(cell, size), BAD if "✗" in cell and not caught else STYLES.get(name, "")))
    return _joined(parts)


def _joined(parts: list[tuple[str, str]]) -> Text:
    """Pieces of one line with their styles as a Text, made at once: appending each takes most of a long tree's time."""
    plain = "".join(part for part, _ in parts).rstrip()
    spans, begin = [], 0
    for part, style in parts:
        end = min(begin + len(part), len(plain))
        if style and end > begin:
            spans.append(Span(begin, end, style))
        begin += len(part)
    return Text(plain, no_wrap=True, overflow="ellipsis", spans=spans)


def _cut_guide(guide: str, room: int) -> str:
    """The lines that lead to a name: of a deep nesting only the last, so that a name of some length has room."""
    room = max(3, room)
    return guide if len(guide) <= room else "…" + guide[1 - room :]


def _shape_text(row: Row, roomy: bool) -> str:
    if row.call is None or (row.call.fold is not None and row.call.fold.size > 1):
        return ""
    if row.call.kind == "hook":
        error = f"✗ {row.call.error.type}" if row.call.error else ""
        return labels.safe(error or ", ".join(row.call.changed or ["changed nothing"]))
    caught = row.call.error is not None and row.call.error.caught
    return labels.arrow(row.call, roomy=roomy) + (
        f" {labels.safe(row.call.error.type)}, caught" if caught and row.call.error else ""
    )


def _device_text(row: Row) -> str:
    if row.call is None:
        return ""
    before = {spec.device for spec in labels.tensors(row.call.inputs)}
    after = {spec.device for spec in labels.tensors(row.call.output)}
    if row.call.kind == "module" and before and after and before != after:
        return f"{', '.join(sorted(before))} → {', '.join(sorted(after))}"
    return ", ".join(sorted(after or before))


def _time_text(row: Row, total: int) -> str:
    if row.call is None or row.call.host_ns is None:
        return ""
    _, size, decimals = labels.unit(total)
    return f"{'~' if unsteady(row.call, total) else ''}{row.call.host_ns / size:.{decimals}f}"


def _device_time_text(row: Row, total: int) -> str:
    """In the unit of the host time beside it."""
    if row.call is None or row.call.device_ns is None:
        return ""
    _, size, decimals = labels.unit(total)
    return f"{row.call.device_ns / size:.{decimals}f}"


def _source_text(row: Row, everything: bool, total: int) -> str:
    """Where the inputs came from: "← conv1, input x"; more than two parameters are counted.

    Of calls that share a line what one of them took comes first, "each 0.37 (0.35–0.41)".
    """
    each = labels.each(row.call, total) if row.call is not None else ""
    if row.obvious and not everything:
        return each
    parameters = [one for one in row.sources if one.startswith(("parameter ", "buffer "))]
    shown = [one for one in row.sources if one not in parameters]
    shown += parameters if len(parameters) <= 2 else [f"{len(parameters)} parameters"]
    return GAP.join(part for part in (each, "← " + ", ".join(shown) if shown else "") if part)


def _cut_source(cell: str, size: int) -> str:
    """What of it fits: a time whole or not at all, and a source where something of it can be read."""
    each, _, source = cell.partition("← ") if cell.startswith("each ") else ("", "", cell)
    if not each:
        return source if size >= SHORTEST_SOURCE else ""
    each = each.rstrip()
    room = size - cell_len(each + GAP)
    if source and room >= SHORTEST_SOURCE:
        return each + GAP + labels.pad("← " + source, room)
    return each if cell_len(each) <= size else _brief_each(each)


def _parameters(totals: dict[str, int], row: Row, brief: bool) -> str:
    """The parameters of a module with everything below it; blank for one that has none."""
    grouped = row.call is not None and row.call.fold is not None and row.call.fold.size > 1
    if row.call is None or (row.call.kind != "module" and not grouped):
        return ""
    total = totals.get(row.call.path, 0)
    if row.call.fold is not None and not row.call.fold.inside:
        total = sum(totals.get(path, 0) for path in row.call.fold.paths)
    return (labels.brief(total) if brief else labels.count(total)) if total else ""


def _line_text(trace: Trace, row: Row) -> str:
    """The line: ":24" in the file of the root's forward, "blocks.py:24" elsewhere; torch's own are left out."""
    call = row.call
    if call is None or call.site is None or not row.guide:
        return ""
    root = trace.modules.get("")
    if root is not None and root.source is not None and call.site.file == root.source.file:
        return f":{call.site.line}"
    if labels.is_torch(call.site) and call.kind != "hook":
        return ""
    return labels.safe(f"{call.site.file.replace(chr(92), '/').rpartition('/')[2]}:{call.site.line}")
