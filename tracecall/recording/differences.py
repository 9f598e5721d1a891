"""Whether something made the recorded run differ from an untraced one, or from one without the user's own hooks."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tracecall.calls import Call, Finding, Site, Trace
from tracecall.recording import tensor_specs, values
from tracecall.recording.failures import describe
from tracecall.recording.sites import Place, site
from tracecall.recording.user_hooks import hook_name, hook_site, module_hooks


def same_output(recorded: object, untraced: object) -> bool:
    """Whether two outputs hold the same tensors bit for bit (a NaN equals a NaN) in the same places."""
    first, second = list(values.leaves("", recorded)), list(values.leaves("", untraced))
    return len(first) == len(second) and all(
        a == b and _same(one, other) for (a, one), (b, other) in zip(first, second, strict=True)
    )


def _same(one: object, other: object) -> bool:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return type(one) is type(other)
    if tensor_specs.spec(one).shape != tensor_specs.spec(other).shape or one.dtype != other.dtype:
        return False
    if (
        one.layout is not torch.strided
        or one.is_nested
        or one.is_quantized
        or one.is_meta
        or type(one) is not torch.Tensor
    ):
        return True  # not compared: these have no plain numbers to compare
    if not one.is_floating_point() and not one.is_complex():
        return torch.equal(one, other)
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def other_output() -> Finding:
    """An untraced run returned something else."""
    return Finding(
        "other-output",
        "an untraced run with the same inputs and random state returned other numbers: the model keeps state between "
        "calls, or its operations are not deterministic",
    )


def not_again(error: BaseException, runs: int) -> Finding:
    """Another run raised; `runs` of each kind came before it."""
    described = describe(error, raised_here=True)
    what = f"{described.type}: {described.message}".partition("\n")[0].removesuffix(": ")
    timed = f"times are of the {runs} before it" if runs > 1 else "times are of the one before it"
    return Finding(
        "not-again",
        f"another run with the same inputs raised {what}, so {timed if runs else 'nothing could be timed'}; a forward "
        "that changes its inputs, or something that it keeps between calls, may not run twice",
        site=_raised_at(error),
    )


def _raised_at(error: BaseException) -> Site | None:
    """The innermost line of a traceback that is neither torch's nor ours."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        home = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if home not in ("torch", "tracecall"):
            found = frame
    return None if found is None else site(Place(found.f_code, found.f_lasti))


def hooked(modules: dict[str, nn.Module]) -> dict[str, list[Any]]:
    """The user's hooks on modules, by path."""
    found = {path: [hook for _, _, hook, _ in module_hooks(module)] for path, module in modules.items()}
    return {path: hooks for path, hooks in found.items() if hooks}


@contextmanager
def unhooked(modules: dict[str, nn.Module]) -> Iterator[None]:
    """The same modules without the user's hooks for a while; the same hooks in the same order afterwards."""
    tables = [table for module in modules.values() for table in (module._forward_pre_hooks, module._forward_hooks)]
    kept = [(table, list(table.items())) for table in tables if table]
    for table, _ in kept:
        table.clear()
    try:
        yield
    finally:
        for table, items in kept:
            table.clear()
            table.update(items)


def changed_by_hooks(trace: Trace, modules: dict[str, nn.Module], record: Callable[[], Trace]) -> Finding | None:
    """Record again without the user's hooks; a finding that shows both if other modules or operations ran."""
    hooks = hooked(modules)
    if not hooks or trace.error is not None:
        return None
    with unhooked(modules):
        try:
            without = record()
        except Exception:  # without its hooks this model cannot run, so there is nothing to compare
            return None
    if without.error is not None:
        return None
    ours, theirs = _modules(trace.calls), _modules(without.calls)
    if ours == theirs:
        return None
    path, functions = next(iter(hooks.items()))
    more = sum(map(len, hooks.values())) - 1
    which = f"the hook {hook_name(functions[0])} on {path or 'the root'}" + (f" (and {more} more)" if more else "")
    return Finding(
        "hooks-change-the-run",
        f"{which} changes what runs: {len(ours)} module calls with hooks, {len(theirs)} without; "
        f"{_first_difference(trace, without)}",
        path,
        hook_site(functions[0]),
    )


def _modules(calls: list[Call]) -> list[str]:
    """The paths of the module calls in call order, those inside hooks left out."""
    found = []
    waiting = list(reversed(calls))
    while waiting:
        call = waiting.pop()
        if call.kind == "module":
            found.append(call.path)
        if call.kind != "hook":
            waiting.extend(reversed(call.children))
    return found


def _first_difference(trace: Trace, without: Trace) -> str:
    """What the first call that is not the same in both did with hooks, and what it did without."""
    pairs = list(zip(reversed(trace.calls), reversed(without.calls), strict=False))
    while pairs:
        one, other = pairs.pop()
        first = [call for call in one.children if call.kind == "module"]
        second = [call for call in other.children if call.kind == "module"]
        if [call.path for call in first] != [call.path for call in second]:
            return f"{one.path or one.name} ran {_names(one, first)} with, and {_names(other, second)} without"
        pairs.extend(zip(reversed(first), reversed(second), strict=False))
    return "the calls are other ones"


def _names(call: Call, inside: list[Call]) -> str:
    """The submodules that a call ran, or else the operation that did their work."""
    if inside:
        return ", ".join(one.name for one in inside[:4]) + (f" and {len(inside) - 4} more" if len(inside) > 4 else "")
    done = [one.name for one in call.children if one.kind == "operation" and one.reads] or [
        one.name for one in call.children if one.kind == "operation"
    ]
    return f"the operation {done[0]}" if done else "nothing"
