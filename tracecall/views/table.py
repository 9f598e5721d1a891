"""The flat view of `--sort`: the costliest modules, the calls of one path added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.calls import Trace
from tracecall.views import labels
from tracecall.views.below import findings_lines
from tracecall.views.cells import cell_len
from tracecall.views.columns import UNSTEADY, varies
from tracecall.views.header import MODULE, QUIET, TIME, header
from tracecall.views.prose import prose

Sort = Literal["time", "self", "flops", "memory", "params"]

ROWS = 20
GAP = "  "
SORTED = "▾"
SHORTEST_PATH = 16
NOTE = "FLOPs: matrix products, convolutions and attention; a multiply-add is two"
UNKNOWN = "? torch has no formula for what runs inside"
_COLUMN = {"time": "total", "self": "self", "flops": "flops", "memory": "output", "params": "params"}


@dataclass
class Row:
    """One module: what its calls took and gave back together. None: not measured, or not known."""

    path: str
    type: str
    calls: int = 0
    total: int | None = None  # ns, on the accelerator where that was measured
    spread: int = 0  # of the host's total, ns
    unsteady: bool = False
    own: int | None = None
    flops: int | None = None
    output: int | None = None  # bytes
    parameters: int = 0


def table(trace: Trace, *, sort: Sort = "time", depth: int | None = None, width: int = 100) -> RenderableType:
    """The header, then at most 20 modules, the costliest by `sort` first, as lines of at most `width` columns.

    `depth` counts module calls below the root, as in the tree: deeper ones are not listed, but their time is in those
    that called them. None is all of them.
    """
    rows = _rows(trace, depth)
    key = _KEYS[sort]
    rows.sort(key=lambda row: (key(row) is None, -(key(row) or 0)))
    shown, hidden = rows[:ROWS], len(rows) - ROWS
    parts: list[RenderableType] = [*header(trace, width), Text(), *_lines(trace, shown, sort, width)]
    if hidden > 0:
        parts.append(Text(f"and {hidden} more", QUIET))
    if any(row.unsteady for row in shown):
        parts += [Text(), *prose(UNSTEADY, width, QUIET)]
    if any(row.flops for row in shown):
        parts += [Text(), *(Text(line, QUIET, overflow="fold") for line in _notes(trace, shown))]
    if about := [finding for finding in trace.findings if finding.kind in _OF_TIMES]:
        parts += [Text(), *findings_lines(about, width)]
    return Group(*parts)


_OF_TIMES = ("not-again", "other-calls")  # findings that tell why there are no times, or of how few runs they are
_KEYS: dict[Sort, Callable[[Row], int | None]] = {
    "time": lambda row: row.total,
    "self": lambda row: row.own,
    "flops": lambda row: row.flops,
    "memory": lambda row: row.output,
    "params": lambda row: row.parameters,
}


def _notes(trace: Trace, rows: list[Row]) -> list[str]:
    return [NOTE, UNKNOWN] if _counted(trace) and any(row.flops is None for row in rows) else [NOTE]


def _counted(trace: Trace) -> bool:
    return any(call.flops is not None for _, call in trace.walk())


def _on_device(trace: Trace) -> bool:
    """Whether the times to compare are the accelerator's: the host's are those of launching work there."""
    return any(call.device_ns is not None for call in trace.calls)


def _rows(trace: Trace, depth: int | None) -> list[Row]:
    """One row for each module that was called. A call inside a call of the same module adds to its own time only."""
    parameters = labels.parameters(trace)
    device = _on_device(trace)
    rows: dict[str, Row] = {}
    above: list[str | None] = []
    for level, call in trace.walk():
        del above[level:]
        outermost = call.path not in above
        above.append(call.path if call.kind == "module" else None)
        if call.kind != "module" or (depth is not None and level > depth):
            continue
        row = rows.get(call.path)
        if row is None:
            row = rows[call.path] = Row(
                call.path, call.type, total=0, own=0, flops=0, output=0, parameters=parameters.get(call.path, 0)
            )
        row.calls += 1
        row.own = _sum(row.own, call.device_self_ns if device else call.host_self_ns)
        if outermost:
            row.total = _sum(row.total, call.device_ns if device else call.host_ns)
            row.spread += 0 if device else call.spread_ns or 0
            row.flops = _sum(row.flops, call.flops)
            row.output = _sum(row.output, call.output_bytes)
    whole = _whole(trace)
    for row in rows.values():
        row.unsteady = row.total is not None and row.spread > 0 and varies(row.total, row.spread, whole)
    return list(rows.values())


def _whole(trace: Trace) -> int:
    return sum((call.device_ns if _on_device(trace) else call.host_ns) or 0 for call in trace.calls)


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


def _lines(trace: Trace, rows: list[Row], sort: Sort, width: int) -> list[Text]:
    """A line of titles and the rows, aligned; where room is short, the columns that say least are left out first."""
    device = _on_device(trace)
    whole = _whole(trace)
    name, size, decimals = labels.unit(max((row.total or 0 for row in rows), default=0))

    def time(ns: int | None) -> str:
        return "" if ns is None else f"{ns / size:.{decimals}f}"

    def share(ns: int | None) -> str:
        return "" if ns is None or not whole else f"{100 * ns / whole:.1f}%"

    counted = _counted(trace)
    columns = {
        "path": [labels.safe(row.path or row.type) for row in rows],
        "type": [labels.safe(row.type) for row in rows],
        "calls": [str(row.calls) if any(row.calls > 1 for row in rows) else "" for row in rows],
        "total": [("~" if row.unsteady else "") + time(row.total) for row in rows],
        "self": [time(row.own) for row in rows],
        "share": [share(row.own if sort == "self" else row.total) for row in rows],
        "flops": [_flops(row) if counted else "" for row in rows],
        "speed": [labels.short(row.flops / row.total * 1e9) if row.flops and row.total else "" for row in rows],
        "output": [labels.short(row.output, "B") if row.output else "" for row in rows],
        "params": [labels.brief(row.parameters) if row.parameters else "" for row in rows],
    }
    titles = {
        **{
            "path": "module",
            "type": "",
            "calls": "calls",
            "total": f"{'device' if device else 'total'} {name}",
            "self": f"self {name}",
        },
        **{"share": "share", "flops": "FLOPs", "speed": "FLOP/s", "output": "output", "params": "params"},
    }
    by = _COLUMN[sort]
    titles[by] = f"{SORTED} {titles[by]}"
    widths = {key: max(map(cell_len, cells), default=0) for key, cells in columns.items()}
    widths = {key: widest and max(widest, cell_len(titles[key])) for key, widest in widths.items()}
    _fit(widths, by, width)
    lines = [_line(titles, widths, {key: MODULE if key == by else QUIET for key in titles})]
    styles = {"path": MODULE, "type": QUIET, by: TIME}
    cells = zip(*columns.values(), strict=True)
    return lines + [_line(dict(zip(columns, row, strict=True)), widths, styles) for row in cells]


def _flops(row: Row) -> str:
    return "?" if row.flops is None else labels.short(row.flops) if row.flops else ""


def _line(cells: dict[str, str], widths: dict[str, int], styles: dict[str, str]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, size in widths.items():
        if size:
            cell = cells[key] if key in ("path", "type") else " " * (size - cell_len(cells[key])) + cells[key]
            cell = "…" + cell[len(cell) - size + 1 :] if key == "path" and cell_len(cell) > size else cell
            line.append(GAP if line.plain else "").append(labels.pad(cell, size), styles.get(key, ""))
    line.rstrip()
    return line


def _fit(widths: dict[str, int], by: str, width: int) -> None:
    """Shrink or drop columns, never the sorted one, until a line fits."""
    for name, least in (("type", 18), ("path", 40), ("type", 12), ("path", 28), ("calls", 0), ("speed", 0),
                        ("type", 0), ("path", SHORTEST_PATH), ("self", 0), ("params", 0), ("output", 0), ("flops", 0),
                        ("share", 0), ("path", 8)):  # fmt: skip
        over = sum(len(GAP) + size for size in widths.values() if size) - len(GAP) - width
        if over <= 0:
            return
        if name != by:
            widths[name] = 0 if least == 0 else max(min(widths[name], least), widths[name] - over)
