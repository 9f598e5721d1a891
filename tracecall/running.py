"""Run a model and record it, as `tracecall.recording` does, and say of a forward that failed why, and what would fit.

The model's exception passes through as it is, with a note; the Trace is `tracecall.last_trace()` and has the cause.
"""

from __future__ import annotations

import os
import re
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import msgspec
from torch import nn

from tracecall import recording
from tracecall.calls import Cause, Fit, TensorSpec, Trace
from tracecall.errors import TracecallError
from tracecall.recording.recorder import Operations
from tracecall.recording.sites import local_names

BUDGET = 2.0  # seconds for what would fit, of one failure
TOGETHER = 6.0  # seconds for all failures of one model: whoever runs it in a loop waits no longer
REMEMBERED = 32  # causes
NOTE = "tracecall: "
_OPTION = re.compile(r"--(input|dtype) (?:(\w+)=)?([^\s:]+)(?::(\w+))?")


def trace(model: nn.Module, /, *args: Any, **kwargs: Any) -> Trace:
    """Run `model(*args, **kwargs)` once and record it.

    The model, its buffers, gradients and torch's random state are afterwards as before. Times are not measured: a
    recording disturbs them (`tracecall.measure` has them). An exception of the model passes through, with a note that
    says why it failed and what would fit, tried out on a copy of the model that holds no numbers; what was recorded
    until then is `tracecall.last_trace()`.
    """
    before = recording.last_trace()
    try:
        return recording.trace(model, *args, **kwargs)
    except Exception as error:
        _explain(error, before, model, args, kwargs)
        raise


@contextmanager
def tracing(model: nn.Module, *, operations: Operations = "forward") -> Iterator[Trace]:
    """Record every call of the model and its submodules that the code inside `with` makes; it runs as it would without.

    The Trace is filled when the block ends. `operations`: "none", "forward" (those of the model's own forwards) or
    "all" (those inside torch.nn's forwards too, which are otherwise recorded only where they fail or read the
    parameters of other modules). An exception that a forward raises gets a note, as from `tracecall.trace`.
    """
    before = recording.last_trace()
    try:
        with recording.tracing(model, operations=operations) as found:
            yield found
    except Exception as error:
        given = _given(model, error.__traceback__)
        _explain(error, before, model, *given or (None, {}))
        raise


def add_cause(
    trace: Trace,
    model: nn.Module,
    args: tuple[Any, ...] | None,
    kwargs: dict[str, Any],
    *,
    budget_s: float | None = None,
) -> None:
    """Set the cause of a failed run, with what would fit; without args only the cause. It never raises an Exception.

    What is known of a model and an error is remembered: to fail in a loop costs little. `budget_s` is the longest that
    the search for what fits may take; BUDGET if it is None, and less where the same model has failed before.
    """
    if trace.error is None or trace.cause is not None:
        return
    with suppress(Exception):  # the model's own exception is what matters: without an explanation it stands alone
        trace.cause = _cause(trace, model, args, kwargs, budget_s)


def _explain(
    error: Exception, before: Trace | None, model: nn.Module, args: tuple[Any, ...] | None, kwargs: dict[str, Any]
) -> None:
    found = recording.last_trace()
    if found is None or found is before or isinstance(error, TracecallError):
        return  # nothing was recorded
    add_cause(found, model, args, kwargs)
    if found.cause is not None and not any(note.startswith(NOTE) for note in getattr(error, "__notes__", ())):
        with suppress(Exception):  # an exception class may refuse attributes
            error.add_note(_note(found.cause, found))


def _note(cause: Cause, trace: Trace) -> str:
    """The cause, its line and what fits, a line each."""
    lines = [NOTE + cause.sentence]
    if cause.site is not None and not cause.site.file.startswith("torch" + os.sep):
        text = "" if cause.site.text is None or cause.site.text in cause.sentence else f"  {cause.site.text}"
        lines.append(f"  at {cause.site.file}:{cause.site.line}{text}")
    lines += [("  fits: " if not i else "     or ") + _spoken(fit, trace) for i, fit in enumerate(cause.fits)]
    return "\n".join(" ".join(line.splitlines()) for line in lines)


def _spoken(fit: Fit, trace: Trace) -> str:
    """A fit without the command line's words: "an input of 4,3" for "--input 4,3"."""
    if fit.command is None or fit.command not in fit.text:
        return fit.text
    given = trace.calls[-1].inputs if trace.calls else []
    names = {value.where: value.value for value in given if isinstance(value.value, TensorSpec)}
    told = []
    for option, name, sizes, dtype in _OPTION.findall(fit.command):
        if option == "dtype":
            told.append(f"the model and its inputs in {sizes}")
            continue
        where = name or next(iter(names), "")
        spec = names.get(where)
        same = spec is not None and (",".join(map(str, spec.shape)) or "scalar") == sizes
        other_dtype = dtype if dtype and (spec is None or spec.dtype != dtype) else ""
        if not same:
            told.append(f"an input {name + ' ' if name else ''}of {sizes}{' in ' + other_dtype if other_dtype else ''}")
        elif other_dtype:
            told.append(f"{where} of {other_dtype}")
    return fit.text.replace(fit.command, " and ".join(told)) if told else fit.text


def _given(model: nn.Module, traceback: TracebackType | None) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What the model was called with, from the frame of its `__call__` that the exception came through."""
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code is nn.Module._wrapped_call_impl.__code__:
            local = local_names(frame)
            if local.get("self") is model:
                return local["args"], local["kwargs"]  # type: ignore[return-value]  # as torch names them
        traceback = traceback.tb_next
    return None


# what was said before


class _Past:
    """What was found out about one model; it goes when the model goes."""

    def __init__(self) -> None:
        self.causes: OrderedDict[bytes, Cause | None] = OrderedDict()
        self.seconds = 0.0


_past: dict[int, tuple[weakref.ref[nn.Module], _Past]] = {}  # by id: a model may be unhashable


def _past_of(model: nn.Module) -> _Past:
    number = id(model)
    known = _past.get(number)
    if known is None or known[0]() is not model:
        known = _past[number] = (weakref.ref(model, lambda _: _past.pop(number, None)), _Past())
    return known[1]


def _cause(
    trace: Trace, model: nn.Module, args: tuple[Any, ...] | None, kwargs: dict[str, Any], budget_s: float | None
) -> Cause | None:
    past = _past_of(model)
    error = trace.error
    assert error is not None
    given = tuple((value.where, value.value) for value in trace.calls[-1].inputs) if trace.calls else ()
    key = msgspec.json.encode(
        (error.type, error.message, error.site, given, args is None, trace.model, trace.settings.grad_mode)
    )
    if key not in past.causes:
        begun = time.monotonic()
        try:
            allowed = min(BUDGET, TOGETHER - past.seconds) if budget_s is None else budget_s
            past.causes[key] = _found(trace, model, args, kwargs, allowed)
        finally:
            past.seconds += time.monotonic() - begun
        if len(past.causes) > REMEMBERED:
            past.causes.popitem(last=False)
    known = past.causes[key]
    return known and msgspec.structs.replace(known, fits=list(known.fits))


def _found(
    trace: Trace, model: nn.Module, args: tuple[Any, ...] | None, kwargs: dict[str, Any], budget_s: float
) -> Cause | None:
    from tracecall.diagnosis import diagnose

    answer = diagnose(trace)
    if answer is None:
        return None
    cause, proposals = answer
    root = bool(trace.calls) and trace.calls[-1].kind == "module" and not trace.calls[-1].path
    if proposals and args is not None and root and budget_s > 0:
        with suppress(Exception):  # a model that cannot be copied: the cause stands without what fits
            from tracecall.symbolic.fitting import fits  # only a run that failed needs it

            cause.fits = fits(model, args, kwargs, trace, proposals, budget_s=budget_s)
    return cause
