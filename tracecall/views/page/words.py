"""What a page says around the tree, in the terminal's words: header, failure, findings, prediction, settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tracecall.calls import Prediction, Site, Trace
from tracecall.views import labels
from tracecall.views.below import endless
from tracecall.views.header import header, mode

FIRST = 4  # tensors of the prediction that are seen at once, as in the terminal
CLOSED = 20  # that open with a click; the rest is counted
_SELDOM_NEWS = ("weights-used", "unused")  # findings that come last
_WIDE = 1_000_000  # columns: the browser wraps the header's lines


def said(trace: Trace) -> dict[str, Any]:
    """What both say in the terminal's words: header, failure, findings."""
    first, *more = [line.plain for line in header(trace, _WIDE)]
    name, notes = labels.safe(trace.model.name), trace.settings.notes
    return {
        "model": {"name": name},
        "facts": [part for part in first.removeprefix(name).split("   ") if part],
        "times": [part for line in more[: len(more) - len(notes)] for part in line.split("   ") if part],
        "notes": [labels.safe(note) for note in notes],
        "failure": _failure(trace),
        "findings": [
            {"message": labels.safe(finding.message), "place": labels.place(finding.site), "text": _text(finding.site)}
            for finding in sorted(trace.findings, key=lambda one: one.kind in _SELDOM_NEWS)
        ],
    }


def prediction(trace: Trace) -> dict[str, Any]:
    """The tensors that the model returned: the `first`, others that stand `closed`, and how many `more` there are."""
    more = len(trace.prediction) - FIRST - CLOSED
    least = "at least " if endless(trace) else ""
    return {
        "first": [_predicted(one) for one in trace.prediction[:FIRST]],
        "closed": [_predicted(one) for one in trace.prediction[FIRST : FIRST + CLOSED]],
        "more": f"and {least}{more:,} more tensor{'' if more == 1 else 's'}" if more > 0 else "",
    }


def _predicted(one: Prediction) -> dict[str, str]:
    """One tensor, with its first values."""
    values = [labels.number(value) for value in one.values]
    whole = len(values) == math.prod(size for size in one.tensor.shape if isinstance(size, int))
    return {
        "where": labels.safe(one.where),
        "tensor": labels.tensor(one.tensor),
        "numbers": ", ".join(values if whole or not values else [*values, "…"]),
    }


def settings(trace: Trace) -> Iterator[tuple[str, str]]:
    """The settings and the environment, each with its name."""
    settings, environment, times = trace.settings, trace.environment, trace.timing
    yield "mode", mode(trace)
    yield "operations", {"none": "not recorded", "forward": "recorded", "all": "recorded"}[settings.operations]
    yield "device", labels.safe(settings.device)
    for device, name in environment.devices.items():
        yield labels.safe(device), labels.safe(name)
    if settings.dtype is not None:
        yield "dtype", labels.safe(settings.dtype)
    if settings.seed is not None:
        yield "seed", str(settings.seed)
    yield "timing runs", str(times.runs) if times is not None else "none"
    yield "torch", labels.safe(environment.torch)
    yield "python", labels.safe(environment.python)
    for note in settings.notes:
        yield "note", labels.safe(note)


def _failure(trace: Trace) -> dict[str, Any] | None:
    if trace.error is None:
        return None
    error, cause, failing = trace.error, trace.cause, trace.failing()
    sites = [cause.site if cause else None, failing.site if failing else None, error.site]
    known = [site for site in sites if site is not None]
    # the model's own line, where there is one: torch's says less to the reader
    site = next((site for site in known if not labels.is_torch(site)), known[0] if known else None)
    sentence = cause.sentence if cause is not None else ""
    if site is not None and site.text:
        sentence = sentence.removeprefix(f"{site.text}: ")  # the expression stands above already
    return {
        "place": labels.place(site),
        "text": _text(site),
        "sentence": labels.safe(sentence),
        "fits": [
            {
                "text": labels.safe(fit.text),
                "command": labels.safe(fit.command) if fit.command and fit.command not in fit.text else "",
            }
            for fit in (cause.fits if cause else [])
        ],
        "type": labels.safe(error.type),
        "message": "\n".join(labels.safe(line) for line in error.message.strip().split("\n")),
    }


def _text(site: Site | None) -> str:
    return labels.safe(site.text) if site is not None and site.text else ""
