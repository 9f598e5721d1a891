"""The terminal view: a header, the call tree with aligned columns, the prediction, what failed, findings."""

from __future__ import annotations

import io
import math
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from tracecall.calls import Call, Finding, Site, TensorSpec, Trace
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET, TIME, header

STYLES = {"device": NOTE, "time": TIME, "device time": TIME, "bar": TIME, "line": QUIET, "from": QUIET}
RIGHT = ("time", "device time", "parameters", "line")
BAR = 8
WIDEST_LABEL = 44
SHORTEST_NAME = 12
_LATER = {"weights-used": 1, "unused": 2}  # findings that are seldom news come last
GAP = "  "
HOT = "◂"
UNSTEADY = "~ the middle half of its runs spans more than half of its median"


@dataclass
class Row:
    """One line of the tree; a row with a `note` has no columns."""

    guide: str
    name: str
    style: str = ""
    type: str = ""
    call: Call | None = None
    sources: list[str] = field(default_factory=list)
    obvious: bool = False  # the only source is the line above
    note: Text | None = None
    hot: bool = False  # on the hot path


def tree(trace: Trace, *, width: int = 100, depth: int | None = None, operations: str = "forward") -> RenderableType:
    """Everything that `tracecall run` prints. `depth` counts module calls below the root, None for all of them."""
    rows = list(_rows(trace, depth, operations))
    parts: list[RenderableType] = [*header(trace, width), Text(), *_lines(trace, rows, width)]
    total = _total(trace)
    if any(row.call is not None and _unsteady(row.call, total) for row in rows):
        parts += [Text(), Text(UNSTEADY, QUIET, no_wrap=True, overflow="ellipsis")]
    if trace.prediction:
        parts += [Text(), *_prediction(trace, width)]
    if trace.error is not None:
        parts += [Text(), *_failure(trace)]
    if trace.findings:
        parts += [Text(), *_findings(trace.findings, width)]
    return Group(*parts)


def text(trace: Trace, *, width: int | None = None, depth: int | None = None, operations: str = "forward") -> str:
    """The same without colours, as `print(trace)` shows it."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    console.print(tree(trace, width=width, depth=depth, operations=operations))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _rows(trace: Trace, depth: int | None, operations: str) -> Iterator[Row]:
    for number, call in enumerate(trace.calls):
        if number:
            yield Row("", "", note=Text())
        if call.kind == "module":
            yield from _chain(trace, call, depth, operations)
        else:
            yield Row("", labels.safe(call.name), call=call)


def _chain(trace: Trace, call: Call, depth: int | None, operations: str) -> Iterator[Row]:
    """The root in full: `__call__`, forward pre-hooks, forward with everything inside it, forward hooks."""
    name = call.path or call.type
    mark = "✗ " if call.error else ""
    closed = f"  opaque: {call.opaque}" if call.opaque else ""
    yield Row("", f"{mark}{labels.safe(name)}.__call__{closed}", BAD if call.error else MODULE, call=call)
    before = [child for child in call.children if child.hook and child.hook.when == "forward pre-hook"]
    after = [child for child in call.children if child.hook and child.hook.when == "forward hook"]
    info = trace.modules.get(call.path)
    yield from _hook_rows("forward pre-hooks", before, "├─ ", "│  ", depth, operations)
    where = labels.place(info.source) if info else ""
    refused = before and before[-1].error is not None and not before[-1].error.caught
    note = Text.assemble(("├─ ", QUIET), "forward", ("  " + ("did not run" if refused else where), QUIET))
    yield Row("├─ ", "forward", note=note)
    inside = [child for child in call.children if child not in before and child not in after]
    yield from _children(inside, "│  ", depth, operations, root=True)
    yield from _hook_rows("forward hooks", after, "└─ ", "   ", depth, operations)


def _hook_rows(
    title: str, hooks: list[Call], guide: str, below: str, depth: int | None, operations: str
) -> Iterator[Row]:
    line = Text.assemble((guide, QUIET), title)
    if not hooks:
        line.append("  none", QUIET)
    yield Row(guide, title, note=line)
    yield from _children(hooks, below, None, operations)


def _shown(call: Call, operations: str, root: bool) -> bool:
    """Operations inside torch.nn's own forwards only where they explain something.

    They do if there is nothing else to see (the root is torch.nn's own), if they failed, or did other modules' work.
    """
    if call.kind != "operation":
        return True
    if operations == "none":
        return call.error is not None
    return not call.internal or operations == "all" or root or call.error is not None or bool(call.reads)


def _children(
    calls: list[Call], guide: str, depth: int | None, operations: str, *, root: bool = False
) -> Iterator[Row]:
    """The calls inside a call; iterative, since recursion in a model may be as deep as Python allows."""
    if depth == 0:
        yield from _hidden(calls, guide, operations, root)
        return
    waiting = [(*sibling, guide, 1) for sibling in reversed(_siblings(calls, operations, root))]
    while waiting:
        call, last, previous, before, level = waiting.pop()
        row = _row(call, before + ("└─ " if last else "├─ "), previous)
        inside = _siblings(call.children, operations)
        if depth is not None and level >= depth and call.kind == "module" and inside:
            row.name += f"  +{len(inside)}"
            inside = []
        yield row
        below = before + ("   " if last else "│  ")
        waiting.extend((*sibling, below, level + 1) for sibling in reversed(inside))


def _hidden(calls: list[Call], guide: str, operations: str, root: bool) -> Iterator[Row]:
    hidden = len(_siblings(calls, operations, root))
    if hidden:
        yield Row(guide, "", note=Text(f"{guide}└─ {hidden} call{'' if hidden == 1 else 's'}, not shown", QUIET))


def _siblings(calls: list[Call], operations: str, root: bool = False) -> list[tuple[Call, bool, Call | None]]:
    """The calls that are shown, each with whether it is the last and what stands before it."""
    shown = [call for call in calls if _shown(call, operations, root)]
    return [(call, i == len(shown) - 1, shown[i - 1] if i else None) for i, call in enumerate(shown)]


def _row(call: Call, guide: str, previous: Call | None) -> Row:
    if call.kind == "hook":
        return Row(guide, labels.safe(call.name), "", call.hook.when if call.hook else "", call)
    mark = "✗ " if call.error else ""
    style = BAD if call.error and not call.error.caught else (MODULE if call.kind == "module" else "")
    kind = labels.safe(call.type) if call.kind == "module" else ""
    found = labels.sources(call)
    # where room is short, a chain needs no arrows: what comes from the line above is not said again
    obvious = previous is not None and [one.partition(" #")[0] for one in found] == [labels.safe(previous.name)]
    name = mark + labels.safe(call.name)
    if call.opaque:
        name += f"  opaque: {call.opaque}"
    if call.thread:
        name += f"  in thread {labels.safe(call.thread)}"
    return Row(guide, name, style, kind, call, found, obvious)


def _lines(trace: Trace, rows: list[Row], width: int) -> list[Text]:
    """Rows as lines with aligned columns; where room is short, the columns that say least are left out first."""
    total = _total(trace)
    hot = _hot_path(trace)
    for row in rows:
        row.hot = id(row.call) in hot
    calls = [row for row in rows if row.call is not None]
    devices = any(spec.device != "cpu" for row in calls if row.call for spec in labels.tensors(row.call.output))
    totals = labels.parameters(trace)
    for roomy, brief, everything in (
        (True, False, True),
        (False, False, True),
        (False, False, False),
        (False, True, False),
    ):
        columns = {
            "shapes": [_shape_text(row, roomy) for row in rows],
            "device": [_device_text(row) if devices else "" for row in rows],
            "time": [_time_text(row, total) for row in rows],
            "device time": [_device_time_text(row, total) for row in rows],
            "bar": ["x" * BAR if row.call is not None and total else "" for row in rows],
            "parameters": [_parameters(totals, row, brief) for row in rows],
            "line": [_line_text(trace, row) for row in rows],
            "from": [_source_text(row, everything) for row in rows],
        }
        unit = labels.unit(total)[0]
        titles = {"time": unit, "device time": f"device {unit}", "parameters": "params"}
        widths = {name: max(map(cell_len, cells), default=0) for name, cells in columns.items()}
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
        if _needed(label, {**widths, **({} if everything else _spare(widths))}) <= width:
            break
    label = _fit(widths, label, width)
    title = Text(" " * (label + len(GAP) + widths["type"] if widths["type"] else label), QUIET)
    for name, size in widths.items():
        if size and name != "type":
            cell = titles.get(name, "")
            title.append(GAP + (cell.rjust(size) if name in RIGHT else labels.pad(cell, size)), QUIET)
    title.rstrip()
    return [
        *([title] if title.plain else []),
        *(_line(row, i, columns, widths, label, total) for i, row in enumerate(rows)),
    ]


def _total(trace: Trace) -> int:
    """The longest time of the trace, which bars and units refer to."""
    return max((call.host_ns or 0 for call in trace.calls), default=0)


def _hot_path(trace: Trace) -> set[int]:
    """The ids of calls on the way to where time goes: the costliest at each level, if it takes at least a quarter."""
    found: set[int] = set()
    total = _total(trace)
    for root in trace.calls if total else ():
        inside = root.children
        while modules := [call for call in inside if call.kind == "module" and call.host_ns is not None]:
            costliest = max(modules, key=lambda call: call.host_ns or 0)
            if (costliest.host_ns or 0) * 4 < total:
                break
            found.add(id(costliest))
            inside = costliest.children
    return found


def _unsteady(call: Call, total: int) -> bool:
    """Whether its times differ from run to run by so much; of a call under 1 % of the total nobody needs to know."""
    return call.host_ns is not None and (call.spread_ns or 0) * 2 > call.host_ns and call.host_ns * 100 >= total


def _spare(widths: dict[str, int]) -> dict[str, int]:
    return {"from": 0, "bar": min(4, widths["bar"]), "type": min(12, widths["type"])}


def _needed(label: int, widths: dict[str, int]) -> int:
    return label + sum(len(GAP) + size for size in widths.values() if size)


def _fit(widths: dict[str, int], label: int, width: int) -> int:
    """Shrink or drop columns until a line fits; returns the label's width."""
    for name, least in (("from", 24), ("type", 18), ("bar", 4), ("from", 14), ("type", 12), ("from", 0), ("bar", 3),
                        ("label", 30), ("type", 9), ("bar", 0), ("label", 26), ("shapes", 30), ("parameters", 0),
                        ("label", 22), ("shapes", 24), ("type", 0), ("line", 0), ("device", 0),
                        ("label", 16)):  # fmt: skip
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
    line = Text(no_wrap=True, overflow="ellipsis")
    typed = widths["type"] and row.type
    room = label if typed or not widths["type"] else label + len(GAP) + widths["type"]
    guide = _cut_guide(row.guide, room - min(SHORTEST_NAME, cell_len(row.name)))
    line.append(guide, QUIET)
    line.append(labels.pad(row.name, room - cell_len(guide)), row.style)
    if typed:
        line.append(GAP + labels.pad(row.type, widths["type"]), QUIET)
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
        elif name in RIGHT:
            cell = " " * (size - cell_len(cell)) + cell
        elif name == "shapes" and cell_len(cell) > size:
            cell = "…" + cell[len(cell) - size + 1 :]  # the output stands at the end, and says more
        line.append(GAP + labels.pad(cell, size), BAD if "✗" in cell and not caught else STYLES.get(name, ""))
    line.rstrip()
    return line


def _cut_guide(guide: str, room: int) -> str:
    """The lines that lead to a name: of a deep nesting only the last, so that a name of some length has room."""
    room = max(3, room)
    return guide if len(guide) <= room else "…" + guide[1 - room :]


def _shape_text(row: Row, roomy: bool) -> str:
    if row.call is None:
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
    return f"{'~' if _unsteady(row.call, total) else ''}{row.call.host_ns / size:.{decimals}f}"


def _device_time_text(row: Row, total: int) -> str:
    """In the unit of the host time beside it."""
    if row.call is None or row.call.device_ns is None:
        return ""
    _, size, decimals = labels.unit(total)
    return f"{row.call.device_ns / size:.{decimals}f}"


def _source_text(row: Row, everything: bool) -> str:
    """Where the inputs came from: "← conv1, input x"; more than two parameters are counted."""
    if row.obvious and not everything:
        return ""
    parameters = [one for one in row.sources if one.startswith(("parameter ", "buffer "))]
    if len(parameters) > 2:
        others = [one for one in row.sources if one not in parameters]
        return "← " + ", ".join([*others, f"{len(parameters)} parameters"])
    return "← " + ", ".join(row.sources) if row.sources else ""


def _parameters(totals: dict[str, int], row: Row, brief: bool) -> str:
    """The parameters of a module with everything below it; blank for one that has none."""
    if row.call is None or row.call.kind != "module":
        return ""
    total = totals.get(row.call.path, 0)
    return (labels.brief(total) if brief else labels.count(total)) if total else ""


def _line_text(trace: Trace, row: Row) -> str:
    """The line: ":24" in the file of the root's forward, "blocks.py:24" elsewhere; torch's own are left out."""
    call = row.call
    if call is None or call.site is None or not row.guide:
        return ""
    root = trace.modules.get("")
    if root is not None and root.source is not None and call.site.file == root.source.file:
        return f":{call.site.line}"
    if _is_torch(call.site) and call.kind != "hook":
        return ""
    return labels.safe(f"{call.site.file.replace(chr(92), '/').rpartition('/')[2]}:{call.site.line}")


def _prediction(trace: Trace, width: int) -> Iterator[Text]:
    for one in trace.prediction[:4]:
        line = Text.assemble(("prediction", MODULE), overflow="fold")
        line.append(f"  {labels.safe(one.where)}" if one.where else "", "")
        line.append("  " + labels.tensor(one.tensor) + "  ", "")
        values = [labels.number(value) for value in one.values]
        whole = len(values) == math.prod(size for size in one.tensor.shape if isinstance(size, int))
        while len(values) > 1 and line.cell_len + len(", ".join([*values, "…"])) > width:
            values, whole = values[:-1], False
        line.append(", ".join(values if whole else [*values, "…"]) if values else "", TIME)
        yield line
    if len(trace.prediction) > 4:
        yield Text(f"            and {len(trace.prediction) - 4} more tensors", QUIET)


def _failure(trace: Trace) -> Iterator[Text]:
    """Where it failed in the model's own code, what was said, and the shapes that met there."""
    error = trace.error
    assert error is not None
    own, raised = _own_site(trace), error.site
    yield _site_line("✗ ", own or raised, BAD, trace.model.name)
    message = error.message.strip().split("\n")
    yield Text(labels.safe(f"  {error.type}: {message[0]}"), BAD, overflow="fold")
    for line in message[1:4]:
        yield Text(labels.safe("  " + line), overflow="fold")
    if own is not None and raised is not None and own != raised:
        yield _site_line("  in ", raised, QUIET, "")
    failing = trace.failing()
    for value in failing.inputs if failing is not None else ():
        if isinstance(value.value, TensorSpec):
            came = f"  ← {labels.safe(value.source)}" if value.source else ""
            yield Text.assemble(f"    {labels.safe(value.where)}  {labels.tensor(value.value)}", (came, QUIET))
        else:
            yield Text(labels.safe(f"    {value.where}  {value.value}"))


def _own_site(trace: Trace) -> Site | None:
    """The line of the model's own code that the exception came through: not torch's, if there is another."""
    found: Site | None = None
    calls = trace.calls
    while True:
        call = next((one for one in reversed(calls) if one.error is not None and not one.error.caught), None)
        if call is None or call.error is None:
            return found
        for site in (call.site, call.error.site):
            if site is not None and not _is_torch(site):
                found = site
        calls = call.children


def _site_line(mark: str, site: Site | None, style: str, otherwise: str) -> Text:
    where = labels.place(site) or labels.safe(otherwise)
    expression = labels.safe(site.text or "") if site else ""
    return Text.assemble((mark, style), (where, MODULE if style == BAD else style), "  ", expression, overflow="fold")


def _is_torch(site: Site) -> bool:
    return site.file.replace("\\", "/").startswith("torch/")


def _findings(findings: list[Finding], width: int) -> Iterator[Text]:
    for finding in sorted(findings, key=lambda one: _LATER.get(one.kind, 0)):
        lines = textwrap.wrap(labels.safe(finding.message), max(20, width - 2), break_on_hyphens=False)
        for number, line in enumerate(lines):
            yield Text.assemble(("  " if number else "! ", NOTE), line, overflow="fold")
        if finding.site is not None:
            where = Text("  " + labels.place(finding.site), QUIET, no_wrap=True, overflow="ellipsis")
            if finding.site.text:
                where.append("  " + labels.safe(finding.site.text))
            yield where
