"""Two traces as the lines of one tree: signs, names and columns, aligned to a width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from tracecall.calls import Call
from tracecall.comparison import FEWEST, MARGIN, Pair, Ratio
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET

GAP = "  "
STYLES = {"+": "green", "−": BAD, "→": NOTE, "✗": BAD}
LEAST_LABEL = 16
SHORTEST_NAME = 12
OPEN = 100  # a ratio that may be larger may be anything
LEAST = 0.005  # and one that may be smaller: it would read 0.00


@dataclass
class Line:
    """One line of the tree. `note` stands for several pairs, or for a change of the pair above."""

    guide: str
    below: str  # the guide of what stands under it
    pair: Pair | None = None
    sign: str = ""  # in front of the line
    note: Text | None = None
    inside: int = 0  # calls that are not shown


@dataclass
class Column:
    """A column of cells, one a line of the tree. One with a rank may go where room is short, the lowest first."""

    title: str
    cells: list[str]
    style: Callable[[int], str] = lambda _: ""
    right: bool = True
    rank: int | None = None
    least: int = 0  # cells that it may shrink to before it goes

    @property
    def width(self) -> int:
        """As wide as its widest cell, 0 without any."""
        widest = max(map(cell_len, self.cells), default=0)
        return widest and max(widest, cell_len(self.title))


Children = Callable[[Pair, int], list[Pair | int]]  # what is shown inside a call at a depth; a number stands for many


def tree_lines(roots: list[Pair], children: Children, operations: str) -> Iterator[Line]:
    """The lines of a tree; iterative, as deep as a model's recursion may be."""
    waiting: list[tuple[Pair | int, str, str, int]] = [(pair, "", "", 0) for pair in reversed(roots)]
    while waiting:
        item, guide, below, depth = waiting.pop()
        if isinstance(item, int):
            yield Line(guide, below, note=Text(f"… {calls(item)} unchanged", QUIET))
            continue
        shown = children(item, depth + 1)
        line = Line(guide, below + ("│  " if shown else "   "), item, item.sign)
        if not shown:
            line.inside = _inside(item, operations)
        yield line
        for i, child in reversed(list(enumerate(shown))):
            last = i == len(shown) - 1
            waiting.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), depth + 1))


def calls(number: int) -> str:
    """A number of calls: "1 call", "12 calls"."""
    return f"{number:,} call{'' if number == 1 else 's'}"


def seen(pair: Pair, operations: str) -> bool:
    """Whether an operation is to be shown: as in the tree of one trace; but for "none", where it is not as it was."""
    call = pair.call
    if call.kind != "operation" or call.error is not None:
        return True
    if operations == "none":
        return False
    return operations == "all" or not call.internal or bool(call.reads) or bool(pair.sign)


def _inside(pair: Pair, operations: str) -> int:
    """How many calls inside one are to be seen."""
    waiting, found = list(pair.children), 0
    while waiting:
        one = waiting.pop()
        if seen(one, operations):
            found += 1
            waiting.extend(one.children)
    return found


def signed(lines: list[Line]) -> bool:
    """Whether any line has a sign, so that there is a column for it."""
    return any(line.sign for line in lines)


def name(pair: Pair) -> str:
    """A call by what the model's code calls it; the root by its class."""
    call = pair.call
    return labels.safe(call.name if call.path or call.kind != "module" else pair.type)


def type_text(pair: Pair) -> str:
    """The type of a module's call."""
    return labels.safe(pair.type) if pair.call.kind == "module" and pair.call.path else ""


def grid(lines: list[Line], columns: list[Column], width: int) -> list[Text]:
    """Lines of at most `width` cells: sign, guide, name, then the columns under their titles."""
    lead = 2 if signed(lines) else 0
    texts = ["" if line.pair is None else name(line.pair) for line in lines]
    for i, line in enumerate(lines):
        texts[i] += f"  ({calls(line.inside)} inside)" if line.inside else ""
    label = max((cell_len(line.guide + text) for line, text in zip(lines, texts, strict=True)), default=0)
    widths = [column.width for column in columns]
    label = _fit(columns, widths, lead + label, width) - lead
    title = " " * (lead + label)
    for column, size in zip(columns, widths, strict=True):
        title += GAP + _aligned(column, column.title, size) if size else ""
    made = [Text(title.rstrip(), QUIET, no_wrap=True, overflow="ellipsis")] if title.strip() else []
    for i, (line, text) in enumerate(zip(lines, texts, strict=True)):
        if line.note is not None:
            made.append(Text.assemble(" " * lead, (line.guide, QUIET), line.note, no_wrap=True, overflow="ellipsis"))
            continue
        assert line.pair is not None
        sign = line.sign
        row = Text(no_wrap=True, overflow="ellipsis")
        row.append(labels.pad(sign, lead) if lead else "", STYLES.get(sign, ""))
        room = max(2, label - min(SHORTEST_NAME, cell_len(text)))
        guide = line.guide if cell_len(line.guide) <= room else "…" + line.guide[1 - room :]
        style = STYLES[sign] if sign in ("+", "−") else MODULE if line.pair.call.kind == "module" else ""
        row.append(guide, QUIET).append(labels.pad(text, label - cell_len(guide)), style)
        for column, size in zip(columns, widths, strict=True):
            if size:
                row.append(GAP + _aligned(column, column.cells[i], size), column.style(i))
        row.rstrip()
        made.append(row)
    return made


def _aligned(column: Column, cell: str, size: int) -> str:
    return " " * (size - cell_len(cell)) + cell if column.right and cell_len(cell) <= size else labels.pad(cell, size)


def _fit(columns: list[Column], widths: list[int], label: int, width: int) -> int:
    """Shrink the label and columns by rank, then drop those, until a line fits; the label's width with the signs'."""

    def over() -> int:
        return max(0, label + sum(len(GAP) + size for size in widths if size) - width)

    ranked = [i for _, i in sorted((column.rank, i) for i, column in enumerate(columns) if column.rank is not None)]
    for i in ranked:
        if columns[i].least:
            widths[i] = max(min(widths[i], columns[i].least), widths[i] - over())
    label = max(min(label, LEAST_LABEL * 2), label - over())
    for i in ranked:
        if over():
            widths[i] = 0
    return max(min(label, LEAST_LABEL), label - over())


def times(lines: list[Line], names: tuple[str, str]) -> list[Column]:
    """Columns of both times, their ratio, what it may as well be, and whether that is a change."""
    ratios = [None if line.pair is None else line.pair.time for line in lines]
    if not any(ratios):
        return []
    device = any(one is not None and one.clock == "device" for one in ratios)
    before = [None if line.pair is None else _time(line.pair.before, device) for line in lines]
    after = [None if line.pair is None else _time(line.pair.after, device) for line in lines]
    unit, size, decimals = labels.unit(max(ns or 0 for ns in [*before, *after]))

    def text(ns: int | None) -> str:
        return "" if ns is None else f"{ns / size:.{decimals}f}"

    def style(i: int) -> str:
        return VERDICTS.get(_verdict(ratios[i]), QUIET)

    clock = "device " if device else ""
    return [
        Column(f"{names[0]} {clock}{unit}", [text(ns) for ns in before], rank=3),
        Column(f"{names[1]} {clock}{unit}", [text(ns) for ns in after], rank=4),
        Column("ratio", ["" if one is None else f"{one.ratio:.2f}" for one in ratios], style),
        Column("", [_interval(one) for one in ratios], lambda _: QUIET, right=False, rank=2),
        Column("", [_verdict(one) for one in ratios], style, right=False),
    ]


def how(second: str, first: str) -> str:
    """How a ratio is made, and when a call is said to be slower or faster."""
    return (
        f"ratio: {second} by {first}, and what it may as well be by the spread of both; slower or faster where all of "
        f"that is beyond {MARGIN:g}, by {FEWEST} runs or more of each"
    )


def _time(call: Call | None, device: bool) -> int | None:
    if call is None:
        return None
    return call.device_ns if device and call.device_ns is not None else call.host_ns


VERDICTS = {"slower": "bold red", "faster": "bold green"}


def _interval(ratio: Ratio | None) -> str:
    if ratio is None or not (ratio.noisy or ratio.low is not None or ratio.high is not None):
        return ""
    low = "…" if ratio.low is None or ratio.low < LEAST else f"{ratio.low:.2f}"
    high = "…" if ratio.high is None or ratio.high >= OPEN else f"{ratio.high:.2f}"
    return "noisy" if low == high == "…" else f"{low}–{high}"


def _verdict(ratio: Ratio | None) -> str:
    return "" if ratio is None or ratio.verdict is None else ratio.verdict
