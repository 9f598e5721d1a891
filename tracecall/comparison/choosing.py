"""A part of what two traces are: the calls that `--only` and `--filter` choose, by the rules of one trace.

`merged` makes one Trace of both, so that what chooses calls of a trace chooses pairs, and `chosen` takes them out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tracecall.calls import Call, ModuleInfo, Trace
from tracecall.comparison.trees import Difference, Pair


def merged(found: Difference) -> Trace:
    """Both traces as one: a call for each pair, and one for each changed module that no call shows, where it would be.

    `samples` is the place of the pair in `walk()`, and goes on with the place in `modules`.
    """
    roots: list[Call] = []
    above: list[list[Call]] = [roots]
    by_path: dict[str, Call] = {}
    number = 0
    for depth, pair in found.walk():
        call = _of_both(pair, number)
        number += 1
        above[depth].append(call)
        above[depth + 1 :] = [call.children]
        if call.kind == "module":
            by_path.setdefault(call.path, call)
    for module in found.modules:
        call = Call("module", module.path, module.path, module.type, samples=number)
        number += 1
        near = next((by_path[path] for path in _up(module.path) if path in by_path), None)
        (roots if near is None else near.children).append(call)
    return msgspec.structs.replace(found.after, modules=_modules(found), calls=roots)


def _modules(found: Difference) -> dict[str, ModuleInfo]:
    """Those of both; the former path of one that has another now is an alias."""
    modules = {**found.before.modules, **found.after.modules}
    for _, pair in found.walk():
        old, new = pair.before, pair.after
        if old is None or new is None or old.path == new.path or old.path in found.after.modules:
            continue
        if pair.call.kind == "module" and modules.pop(old.path, None) is not None:
            info = modules[new.path]
            modules[new.path] = msgspec.structs.replace(info, aliases=[*info.aliases, old.path])
    return modules


def chosen(found: Difference, kept: Trace) -> Difference:
    """The pairs, and the modules without a call, whose calls of `merged(found)` are in `kept`."""
    calls = {call.samples: call for _, call in kept.walk()}
    part = msgspec.structs.replace(found, pairs=[], modules=[])
    above: list[list[Pair]] = [part.pairs]
    number = 0
    for depth, pair in found.walk():
        call = calls.get(number)
        number += 1
        if call is None:  # nor is anything inside it kept: the way to what is kept is kept, too
            continue
        asked = pair.call.internal and not call.internal
        pair = msgspec.structs.replace(pair, children=[], asked=asked)
        above[depth].append(pair)
        above[depth + 1 :] = [pair.children]
    part.modules = [module for i, module in enumerate(found.modules, number) if i in calls]
    return part


def _of_both(pair: Pair, number: int) -> Call:
    """A pair as one call; where its type is not the same in both, the other one is among its operations."""
    call = pair.call
    operations: dict[str, int] = {}
    for one in (pair.before, pair.after):
        if one is not None:
            operations.update(one.operations or {}, **({one.type: 1} if one.type != call.type else {}))
    failed = next((one.error for one in (pair.before, pair.after) if one is not None and _ended(one)), call.error)
    return Call(
        call.kind,
        call.path,
        call.name,
        call.type,
        samples=number,
        error=failed,
        operations=operations or None,
        internal=call.internal,
    )


def _ended(call: Call) -> bool:
    return call.error is not None and not call.error.caught


def _up(path: str) -> Iterator[str]:
    """The paths above one, the nearest first."""
    while path:
        path = path.rpartition(".")[0]
        yield path
