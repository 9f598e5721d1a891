"""A part of a Trace: the calls of some modules, those of some types, or the upper levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

import msgspec

from tracecall.calls import Call, ModuleInfo, Trace
from tracecall.errors import TracecallError

NAMED = 6  # how many paths or types an error lists


def limited(trace: Trace, depth: int | None) -> Trace:
    """The Trace with the calls at level `depth` closed; levels are modules below the root, None is all of them.

    A closed call keeps what is inside, so that a view can count it and still knows which call failed.
    """
    if depth is None:
        return trace
    calls = [msgspec.structs.replace(call) for call in trace.calls]
    waiting = [(call, 0) for call in calls]
    while waiting:
        call, level = waiting.pop()
        if call.kind == "module" and level >= depth:
            call.closed = True
            continue
        call.children = [_copy(child) for child in call.children]
        grouped = call.fold is not None and call.fold.size > 1  # no call: its children stand at its own level
        # the root's hooks are part of its chain, and shown at every depth
        inside = call.children if level else [child for child in call.children if child.hook is None]
        # of those that are no copies nothing is inside, and nothing to close
        waiting.extend([(child, level if grouped else level + 1) for child in inside if child.children])
    return msgspec.structs.replace(trace, calls=calls)


def _copy(call: Call) -> Call:
    return msgspec.structs.replace(call) if call.children else call


def of_paths(trace: Trace, wanted: str) -> Trace:
    """The calls of the modules at a path, an alias or a pattern, with what is inside them and the way to them."""
    paths = _matching(trace.modules, wanted)
    if not paths:
        raise TracecallError(_no_path(trace, wanted))
    # a container is never called: what is in it is meant
    containers = tuple(path + "." for path in paths if trace.modules[path].container and path)
    chosen = paths | ({path for path in trace.modules if path.startswith(containers)} if containers else set())

    def is_chosen(call: Call) -> bool:
        return call.kind == "module" and call.path in chosen

    kept, found = _kept(trace, _top_down(trace.calls, is_chosen), is_chosen, whole=True)
    if not found:
        first = min(paths, key=len)
        info = trace.modules[first]
        raise TracecallError(
            f"--only {wanted}: {first or 'the root'} ({info.type}) was not called in this run"
            f" ({info.state.replace('-', ' ')}); type a path of one that was, for example {_called(trace)}"
        )
    return kept


def _matching(modules: dict[str, ModuleInfo], wanted: str) -> set[str]:
    """The first paths of the modules that are meant; `*` in a pattern is one part of a path, or of a part."""
    names = {path: path for path in modules}
    for info in modules.values():
        names.update((alias, info.path) for alias in info.aliases)
    if wanted in names:
        return {names[wanted]}
    if any(char in wanted for char in "*?["):
        parts = wanted.split(".")
        return {
            path for name, path in names.items() if name.count(".") + 1 == len(parts) and _alike(name.split("."), parts)
        }
    # a path through an alias: "tied.proj", where "tied" is another name of "head"
    prefix, rest = wanted, ""
    while "." in prefix:
        prefix, _, part = prefix.rpartition(".")
        rest = f".{part}{rest}"
        if prefix in names and (names[prefix] + rest).lstrip(".") in modules:
            return {(names[prefix] + rest).lstrip(".")}
    return set()


def _alike(name: list[str], pattern: list[str]) -> bool:
    return all(fnmatchcase(part, wanted) for part, wanted in zip(name, pattern, strict=True))


def _no_path(trace: Trace, wanted: str) -> str:
    paths = [path for path in trace.modules if path]
    lower = {path.lower(): path for path in paths}
    near = [lower[one] for one in get_close_matches(wanted.lower(), lower, n=3, cutoff=0.6)]
    near += [path for path in paths if path.endswith("." + wanted) and path not in near][: 3 - len(near)]
    if near:
        hint = "did you mean " + " or ".join(near) + "?"
    else:
        hint = (
            f"type one of {_listed(path for path in paths if '.' not in path)}"
            if paths
            else "it has no submodules: leave --only out"
        )
    return f"--only {wanted}: {trace.model.name} has no module at that path; {hint}"


def _called(trace: Trace) -> str:
    return next((call.path for _, call in trace.walk() if call.kind == "module" and call.path), "''")


def of_types(trace: Trace, wanted: str) -> Trace:
    """The calls of some types, separated by commas, in any case, and the way to them; not what is inside them."""
    given = [one.strip() for one in wanted.split(",") if one.strip()]
    if not given:
        raise TracecallError(f"--filter {wanted!r} names no type; type one of {_listed(_types(trace).values())}")
    every = _top_down(trace.calls, None)
    types = {call.type for call in every}.union(*[call.operations for call in every if call.operations])
    chosen: set[str] = set()
    for one in given:
        found = {type for type in types if fnmatchcase(type.lower(), one.lower())}
        if not found:
            written = _types(trace)
            near = [written[match] for match in get_close_matches(one.lower(), written, n=3, cutoff=0.6)]
            hint = "did you mean " + " or ".join(near) + "?" if near else f"type one of {_listed(written.values())}"
            raise TracecallError(f"--filter {one}: no call of that type in this run; {hint}")
        chosen |= found

    def of_type(call: Call) -> bool:
        return call.type in chosen or (call.operations is not None and not chosen.isdisjoint(call.operations))

    return _kept(trace, every, of_type, whole=False)[0]


def _types(trace: Trace) -> dict[str, str]:
    """The types of all calls in their order, by how they are compared."""
    types: dict[str, str] = {}
    for _, call in trace.walk():
        for one in (call.type, *(call.operations or ())):
            types.setdefault(one.lower(), one)
    return types


def _listed(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = len(every) - NAMED
    return ", ".join(every[:NAMED]) + (f" … ({more} more)" if more > 0 else "")


def _kept(trace: Trace, order: list[Call], wanted: Callable[[Call], bool], *, whole: bool) -> tuple[Trace, bool]:
    """The calls that are wanted, and those that they are in; `whole`: with everything inside.

    `order` has each call before those inside it, as far as they matter.
    A call that ended the run stays too: a tree without it would look as if the run had succeeded.
    """
    found = False
    new: dict[int, Call] = {}
    for call in reversed(order):
        hit = wanted(call)
        found = found or hit
        if hit and whole:
            new[id(call)] = call
            continue
        children = [new[id(child)] for child in call.children if id(child) in new] if call.children else []
        if hit and not call.children and not call.internal:
            new[id(call)] = call  # as it is: of ten thousand, most
        elif hit or children or (call.error is not None and not call.error.caught):
            # an operation that is asked for is shown, though it runs inside one of torch.nn's own forwards
            new[id(call)] = msgspec.structs.replace(call, children=children, internal=call.internal and not hit)
    # the root stays in any case: it is the way to everything
    roots = [new[id(call)] for call in trace.calls if id(call) in new] or [
        msgspec.structs.replace(call, children=[]) for call in trace.calls[:1]
    ]
    return msgspec.structs.replace(trace, calls=roots), found


def _top_down(calls: list[Call], stop: Callable[[Call], bool] | None) -> list[Call]:
    """Every call, each before those inside it; not those inside a call where `stop` says so."""
    found: list[Call] = []
    waiting = list(calls)
    while waiting:
        call = waiting.pop()
        found.append(call)
        if stop is None or not stop(call):
            waiting.extend(call.children)
    return found
