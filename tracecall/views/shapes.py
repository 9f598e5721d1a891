"""The page of `tracecall shapes`: the tree, then what goes in and comes out, and what the input must be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.demands import Demand, ShapeReport
from tracecall.views import labels
from tracecall.views.header import MODULE, NOTE, QUIET
from tracecall.views.lines import PROSE
from tracecall.views.tree import tree

NEEDS = "needs  "


def shapes(
    report: ShapeReport, *, width: int = 100, depth: int | None = None, operations: str = "forward"
) -> RenderableType:
    """Everything that `tracecall shapes` prints. `depth` counts module calls below the root, None for all of them."""
    trace = msgspec.structs.replace(report.trace, findings=[])
    drawn = tree(trace, width=width, depth=depth, operations=operations)
    return Group(drawn, Text(), *below(report, width))


def below(report: ShapeReport, width: int) -> Iterator[Text]:
    """What stands under the tree: the signature, a line for each demand, the notes."""
    failed = report.trace.error is not None
    for i, line in enumerate([] if failed else _wrapped(report.signature, width, "")):
        yield Text(("  " if i else "") + line, MODULE, no_wrap=True)
    for number, demand in enumerate(report.demands):
        lead = " " * len(NEEDS) if number else NEEDS
        for i, line in enumerate(_wrapped(_sentence(demand), min(width, PROSE + 12), NEEDS)):
            mark = Text(" " * len(NEEDS) if i else lead, NOTE, no_wrap=True)
            if not i and line.startswith(text := labels.safe(demand.text)):
                yield mark.append(text, MODULE).append(line[len(text) :], "none")
            else:
                yield mark.append(line, "none")
    for note in report.notes:
        for i, line in enumerate(_wrapped(note, min(width, PROSE + 12), "! ")):
            yield Text.assemble(("  " if i else "! ", NOTE), (line, QUIET), no_wrap=True)


def _sentence(demand: Demand) -> str:
    """As in: (H//4)·(W//4) = 49, from x.view at models/cnn.py:26; H, W ∈ 28…31 when square."""
    text = demand.text
    if demand.name:
        text += f", from {demand.name}"
    if demand.site is not None and not labels.is_torch(demand.site):
        text += f"{'' if demand.name else ','} at {labels.place(demand.site)}"
    return text + (f"; {demand.solved}" if demand.solved else "")


def _wrapped(text: str, width: int, lead: str) -> list[str]:
    room = max(20, width - len(lead))
    return textwrap.wrap(labels.safe(text), room, break_long_words=True, break_on_hyphens=False) or [""]
