"""Which calls of two traces belong together among their siblings: by path or name, and modules that only moved.

What keeps its place is paired first. Then, between two such, modules of another name or index that have the same type
and shapes: renamed, or shifted in an nn.Sequential by one that came or went. Last those that only kept their path.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from tracecall.calls import Call, ModuleInfo, TensorSpec
from tracecall.comparison.matching import match

Both = tuple[Call | None, Call | None]
Modules = Mapping[str, ModuleInfo]


def paired(before: list[Call], after: list[Call], above: Both, modules: tuple[Modules, Modules]) -> list[Both]:
    """Siblings of both traces in one order, `above` the calls that they are inside of; None where one has none."""

    def place(call: Call, side: int) -> Hashable:
        path = name_below(call, above[side])
        if call.kind != "module":
            return call.kind, path, call.hook.when if call.hook else ""
        return (path, *_nature(call)) if _indexed(call) else (path, call.type)

    def nature(call: Call, side: int) -> Hashable:
        free = call.kind == "module" and (_indexed(call) or call.path not in modules[1 - side])
        return _nature(call) if free else id(call)

    def path(call: Call, side: int) -> Hashable:
        return name_below(call, above[side]) if call.kind == "module" else id(call)

    pairs = [*((call, None) for call in before), *((None, call) for call in after)]
    for key in (place, nature, path):
        pairs = _matched(pairs, key)
    return pairs


def name_below(call: Call, above: Call | None) -> str:
    """What a call is known by among its siblings: a module by its path below the caller's, others by their name."""
    if call.kind != "module":
        return call.name
    return call.path.removeprefix(above.path + ".") if above is not None and above.path else call.path


def _matched(pairs: list[Both], key: Callable[[Call, int], Hashable]) -> list[Both]:
    """Those between two pairs, which have no partner, by a key."""
    found: list[Both] = []
    gone: list[Call] = []
    new: list[Call] = []
    for one, other in [*pairs, (None, None)]:
        if one is not None and other is None:
            gone.append(one)
        elif other is not None and one is None:
            new.append(other)
        else:
            if gone and new:
                same = match([key(call, 0) for call in gone], [key(call, 1) for call in new])
                found.extend((None if i is None else gone[i], None if j is None else new[j]) for i, j in same)
            else:
                found.extend([*((call, None) for call in gone), *((None, call) for call in new)])
            gone, new = [], []
            found.append((one, other))
    return found[:-1]


def _nature(call: Call) -> tuple[Hashable, ...]:
    """What is the same of a module that is only called another name: its type, and the tensors in and out."""
    sides = (call.inputs, call.output)
    return (call.type, *(tuple([one.value for one in side if isinstance(one.value, TensorSpec)]) for side in sides))


def _indexed(call: Call) -> bool:
    """Whether its name is its place in an nn.Sequential or nn.ModuleList, which others before it move."""
    return call.path.rpartition(".")[2].isdecimal()
