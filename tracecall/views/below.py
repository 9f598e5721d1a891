"""What stands below the tree: the prediction, what failed, the findings."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from rich.text import Text

from tracecall.calls import Finding, Site, TensorSpec, Trace
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET, TIME

_LATER = {"weights-used": 1, "unused": 2}  # findings that are seldom news come last


def prediction(trace: Trace, width: int) -> Iterator[Text]:
    """Each tensor that the model returned, with as many of its first values as fit."""
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


def failure(trace: Trace) -> Iterator[Text]:
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
            if site is not None and not labels.is_torch(site):
                found = site
        calls = call.children


def _site_line(mark: str, site: Site | None, style: str, otherwise: str) -> Text:
    where = labels.place(site) or labels.safe(otherwise)
    expression = labels.safe(site.text or "") if site else ""
    return Text.assemble((mark, style), (where, MODULE if style == BAD else style), "  ", expression, overflow="fold")


def findings_lines(findings: list[Finding], width: int) -> Iterator[Text]:
    """Each finding as a sentence, and the line that it is about."""
    for finding in sorted(findings, key=lambda one: _LATER.get(one.kind, 0)):
        lines = textwrap.wrap(labels.safe(finding.message), max(20, width - 2), break_on_hyphens=False)
        for number, line in enumerate(lines):
            yield Text.assemble(("  " if number else "! ", NOTE), line, overflow="fold")
        if finding.site is not None:
            where = Text("  " + labels.place(finding.site), QUIET, no_wrap=True, overflow="ellipsis")
            if finding.site.text:
                where.append("  " + labels.safe(finding.site.text))
            yield where
