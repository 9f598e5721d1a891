"""What stands below the tree: the prediction, what failed, the findings."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from tracecall.calls import Cause, Finding, Site, TensorSpec, Trace
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET, TIME

MOST_LISTED = 4096  # predictions that a recording lists
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
        least = "at least " if endless(trace) else ""
        more = len(trace.prediction) - 4
        yield Text(f"            and {least}{more:,} more tensor{'' if more == 1 else 's'}", QUIET)


def endless(trace: Trace) -> bool:
    """Whether what the root returned is nested deeper than it was read, or has more tensors than are listed."""
    texts = (value.value for call in trace.calls for value in call.output if isinstance(value.value, str))
    return len(trace.prediction) >= MOST_LISTED or any(text.endswith("nested too deep>") for text in texts)


def failure(trace: Trace, width: int) -> Iterator[Text]:
    """Where it failed in the model's own code, why and what would fit, and what torch said.

    Where the cause does not tell, also the shapes that met there.
    """
    error, cause = trace.error, trace.cause
    assert error is not None
    own, raised = _own_site(trace), error.site
    yield _site_line("✗ ", own or raised, BAD, trace.model.name)
    message = [f"{error.type}: {error.message.strip()}".split("\n")[0], *error.message.strip().split("\n")[1:4]]
    said = ""
    if cause is None:
        for number, line in enumerate(message):
            yield Text(labels.safe("  " + line), "" if number else BAD, overflow="fold")
    else:
        said = cause.sentence
        yield from _cause(cause, own or raised, width)
        for line in () if message[1:] == [] and message[0] in said else message:
            for part in _prose(line, width - 2):
                yield Text("  " + part, QUIET, overflow="fold")
        if cause.kind != "unknown":
            return
    if own is not None and raised is not None and own != raised:
        yield _site_line("  in ", raised, QUIET, "")
    failing = trace.failing()
    for value in failing.inputs if failing is not None else ():
        if not isinstance(value.value, TensorSpec):
            yield Text(labels.safe(f"    {value.where}  {value.value}"))
        elif labels.tensor(value.value) not in said:
            came = f"  ← {labels.safe(value.source)}" if value.source else ""
            yield Text.assemble(f"    {labels.safe(value.where)}  {labels.tensor(value.value)}", (came, QUIET))


def _cause(cause: Cause, above: Site | None, width: int) -> Iterator[Text]:
    """The sentence, then what fits, a line each: "fits: an input of 28…31 × 28…31   --input 1,3,28,28"."""
    # the expression stands above already
    sentence = cause.sentence.removeprefix(f"{above.text}: ") if above is not None and above.text else cause.sentence
    for line in _prose(sentence, width - 2):
        yield Text("  " + line, overflow="fold")
    for i, fit in enumerate(cause.fits):
        typed = fit.command if fit.command and fit.command not in fit.text else None
        wrapped = _prose(fit.text, width - len(FITS))
        for number, line in enumerate(wrapped):
            mark = "" if number else OR if i else FITS
            shown = Text.assemble((mark.ljust(len(FITS)), NOTE), line, overflow="fold")
            if typed and number == len(wrapped) - 1:
                room = shown.cell_len + len(GAP) + cell_len(typed) <= width
                if not room:
                    yield shown
                    shown = Text(" " * len(FITS))
                shown.append((GAP if room else "") + labels.safe(typed), QUIET)
            yield shown


def _prose(words: str, width: int) -> list[str]:
    """Words in lines that are not too long to read; an expression is broken only where it does not fit one line."""
    return textwrap.wrap(labels.safe(words), max(20, min(width, PROSE)), break_on_hyphens=False)


FITS, OR, GAP = "  fits: ", "  or:", "   "
PROSE = 96  # a longer line of prose is hard to read, however wide the terminal


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
