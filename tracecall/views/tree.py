"""The terminal view: a header, the call tree with aligned columns, the prediction, what failed, findings."""

from __future__ import annotations

import io
import re
import shutil
import textwrap
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from tracecall.calls import Trace
from tracecall.folding import folded, limited
from tracecall.views import labels
from tracecall.views.below import failure, findings_lines, prediction
from tracecall.views.columns import UNSTEADY, total_time
from tracecall.views.header import QUIET, header
from tracecall.views.lines import lines
from tracecall.views.prose import prose
from tracecall.views.rows import Row, explained, rows
from tracecall.views.styled import Line, Styles

UNFOLDED = "×N: N calls alike, with their total time; inside is one, with medians; --no-fold shows all"
UNTIMED = "×N: N calls alike; inside is one; --no-fold shows all"
UNLIKE = 5  # lines about settings that differ
SIGNS = (  # each with the column that it stands in, and how it is found there
    ("+3", "closed", r"  \+\d+$", "calls inside it that are not shown"),
    ("→", "shapes", r"\] → ", "input shapes → output shapes; one shape alone where both are the same"),
    ("█", "bar", "[▏▎▍▌▋▊▉█]", "its share of the whole time"),
    ("◂", "bar", "◂", "the costliest module of its level, a quarter of the whole time or more"),
    (":24", "line", r" :\d+", "the line of code that made the call"),
    ("←", "from", " ← ", "what its input came from; #3 is the third call of that name"),
)


def tree(
    trace: Trace,
    *,
    width: int = 100,
    depth: int | None = None,
    operations: str = "forward",
    explain: bool = False,
) -> RenderableType:
    """Everything that `tracecall run` prints, of the Trace as it is given: `tracecall.folding.folded` folds it.

    `depth` counts module calls below the root, None for all of them.

    `explain` adds a sentence under the first line of each kind, and what the signs mean below the tree.
    """
    return Group(*_parts(trace, width, depth, operations, explain))


def printed(
    trace: Trace,
    console: Console,
    *,
    depth: int | None = None,
    operations: str = "forward",
    explain: bool = False,
) -> str:
    """The same as `console` would print it, colours and all; nothing is printed.

    The tree's own lines are written without rich, which takes a second and a half for ten thousand of them.
    """
    found: list[str] = []
    styles = Styles(console)
    width = console.width  # asked once: rich looks at the terminal each time
    for part in _parts(trace, width, depth, operations, explain):
        if isinstance(part, Line):
            found.append(part.printed(width, styles) + "\n")
        else:
            with console.capture() as captured:
                console.print(Group(part))  # bare, a Text is joined with others and wrapped as they are
            found.append(captured.get())
    return "".join(found)


def text(
    trace: Trace,
    *,
    width: int | None = None,
    depth: int | None = None,
    operations: str = "forward",
    explain: bool = False,
    fold: bool = True,
) -> str:
    """The same without colours, as `print(trace)` shows it: with repeats folded."""
    trace = folded(trace) if fold else trace
    width = width or shutil.get_terminal_size((100, 24)).columns
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, force_jupyter=False, highlight=False
    )
    shown = printed(trace, console, depth=depth, operations=operations, explain=explain)
    return "\n".join(line.rstrip() for line in shown.splitlines())


def _parts(trace: Trace, width: int, depth: int | None, operations: str, explain: bool) -> list[Line | Text]:
    """The header, the tree, what its signs mean, and what stands below it."""
    upper = limited(trace, depth)
    shown = list(rows(upper, operations))
    if explain:
        shown = list(explained(upper, shown))
    drawn = lines(upper, shown, width)
    parts: list[Line | Text] = [*header(trace, width), Text(), *drawn.lines]
    if explain and (signs := list(_signs(drawn.columns, width))):
        parts += [Text(), *signs]
    if any(row.call is not None and row.call.fold is not None for row in shown):
        alike = UNFOLDED if total_time(trace) else UNTIMED
        parts += [Text(), *prose(alike, width, QUIET)]
    if unlike := dict.fromkeys(_unlike(shown)):
        parts += [Text(), *(line for one in unlike for line in prose(one, width, QUIET))]
    if "~" in "".join(drawn.columns.get("time", [])):
        parts += [Text(), *prose(UNSTEADY, width, QUIET)]
    if trace.prediction:
        parts += [Text(), *prediction(trace, width)]
    if trace.error is not None:
        parts += [Text(), *failure(trace, width)]
    if trace.findings:
        parts += [Text(), *findings_lines(trace.findings, width)]
    return parts


def _unlike(shown: list[Row]) -> Iterator[str]:
    """In what calls on one line are not alike: settings of their modules; the first few."""
    found = [row.call for row in shown if row.call is not None and row.call.differs]
    for call in found[:UNLIKE]:
        yield f"settings differ: {labels.bounded(call.differs or '')} in {labels.bounded(call.path)} and those like it"
    if len(found) > UNLIKE:
        yield f"and in {len(found) - UNLIKE} more"


def _signs(columns: dict[str, list[str]], width: int) -> Iterator[Text]:
    """What the signs in a tree mean, of those that its columns have."""
    for sign, column, seen, meaning in SIGNS:
        # all cells at once: of ten thousand, most have none of it
        if re.search(seen, "\n".join(columns.get(column, [])), re.MULTILINE):
            for i, words in enumerate(textwrap.wrap(meaning, max(1, width - 5))):
                yield Text(f"{'' if i else sign:<5}{words}", QUIET, no_wrap=True, overflow="ellipsis")
