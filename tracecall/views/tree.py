"""The terminal view: a header, the call tree with aligned columns, the prediction, what failed, findings."""

from __future__ import annotations

import io
import shutil

from rich.console import Console, Group, RenderableType
from rich.text import Text

from tracecall.calls import Trace
from tracecall.views.below import failure, findings_lines, prediction
from tracecall.views.columns import lines, total_time, unsteady
from tracecall.views.header import QUIET, header
from tracecall.views.rows import rows

UNSTEADY = "~ the middle half of its runs spans more than half of its median"


def tree(trace: Trace, *, width: int = 100, depth: int | None = None, operations: str = "forward") -> RenderableType:
    """Everything that `tracecall run` prints. `depth` counts module calls below the root, None for all of them."""
    shown = list(rows(trace, depth, operations))
    parts: list[RenderableType] = [*header(trace, width), Text(), *lines(trace, shown, width)]
    total = total_time(trace)
    if any(row.call is not None and unsteady(row.call, total) for row in shown):
        parts += [Text(), Text(UNSTEADY, QUIET, no_wrap=True, overflow="ellipsis")]
    if trace.prediction:
        parts += [Text(), *prediction(trace, width)]
    if trace.error is not None:
        parts += [Text(), *failure(trace)]
    if trace.findings:
        parts += [Text(), *findings_lines(trace.findings, width)]
    return Group(*parts)


def text(trace: Trace, *, width: int | None = None, depth: int | None = None, operations: str = "forward") -> str:
    """The same without colours, as `print(trace)` shows it."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    console.print(tree(trace, width=width, depth=depth, operations=operations))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
