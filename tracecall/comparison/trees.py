"""`compare`: the calls of two traces as one tree."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from tracecall.calls import Call, Finding, ModuleInfo, Trace
from tracecall.comparison.changes import (
    Change,
    ModuleChange,
    of_calls,
    of_findings,
    of_modules,
    of_settings,
    type_in,
    type_of,
)
from tracecall.comparison.pairing import name_below, paired
from tracecall.comparison.times import Bounds, Ratio, ratio

ADDED, REMOVED, CHANGED = "+", "−", "→"


class Pair(Struct, eq=False):
    """A call of both traces, or of one of them."""

    before: Call | None
    after: Call | None
    types: tuple[str, str] = ("", "")  # of both; of what TorchScript made, the class that it was made from
    changes: list[Change] = field(default_factory=list)
    time: Ratio | None = None
    children: list[Pair] = field(default_factory=list)
    asked: bool = False  # chosen by its type: shown, though it runs inside one of torch.nn's own forwards

    @property
    def call(self) -> Call:
        """The call as it is now; as it was, if it is gone."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def type(self) -> str:
        """The type of the call as it is now; as it was, if it is gone."""
        return self.types[self.after is not None]

    @property
    def sign(self) -> str:
        """+ added, − removed, → changed, nothing for a call that is as it was; times do not count."""
        if self.before is None:
            return ADDED
        if self.after is None:
            return REMOVED
        return CHANGED if self.changes else ""


class Difference(Struct):
    """All that changed from one trace to another."""

    before: Trace
    after: Trace
    pairs: list[Pair]
    modules: list[ModuleChange]  # that no call shows
    settings: list[Change]  # how both were run
    environment: list[Change]  # where both were run: no change of the model
    findings: tuple[list[Finding], list[Finding]] = field(default_factory=lambda: ([], []))  # that only one has
    bounds: Bounds = field(default_factory=Bounds)  # from where on a time is another one

    def walk(self) -> Iterator[tuple[int, Pair]]:
        """Every pair with its depth, in call order; iterative, as Trace.walk is."""
        waiting = [(0, pair) for pair in reversed(self.pairs)]
        while waiting:
            depth, pair = waiting.pop()
            yield depth, pair
            waiting.extend((depth + 1, child) for child in reversed(pair.children))

    def both(self) -> Iterator[tuple[Call, Call]]:
        """The calls that both traces have, in call order."""
        for _, pair in self.walk():
            if pair.before is not None and pair.after is not None:
                yield pair.before, pair.after

    @property
    def changed(self) -> bool:
        """Whether anything is not as it was; times and the environment do not count."""
        return bool(self.settings or self.modules) or any(pair.sign for _, pair in self.walk())


def compare(before: Trace, after: Trace) -> Difference:
    """What changed, from calls that belong together as `paired` says."""
    settings, environment = of_settings(before, after)
    found = Difference(before, after, [], [], settings, environment, of_findings(before, after))
    waiting: list[_Siblings] = [(before.calls, after.calls, None, None, found.pairs)]
    while waiting:
        olds, news, above, above_now, into = waiting.pop()
        for old, new in paired(olds, news, (above, above_now), (before.modules, after.modules)):
            pair = Pair(old, new)
            both = (before, pair.before), (after, pair.after)
            one, other = ("" if call is None else type_in(trace, call) for trace, call in both)
            pair.types = one, other
            if pair.before is not None and pair.after is not None:
                pair.changes = of_calls(pair.before, pair.after, pair.types)
                names = name_below(pair.before, above), name_below(pair.after, above_now)
                if names[0] != names[1]:
                    pair.changes.insert(0, Change("name", *names))
                pair.time = ratio(pair.before, pair.after)
            into.append(pair)
            inside = pair.before.children if pair.before else [], pair.after.children if pair.after else []
            if any(inside):
                waiting.append((*inside, pair.before, pair.after, pair.children))
    _add_modules(found)
    return found


_Siblings = tuple[list[Call], list[Call], Call | None, Call | None, list[Pair]]


def _add_modules(found: Difference) -> None:
    """Changes of modules: with the first call of each, or in a list where no call shows them."""
    old, new = found.before.modules, found.after.modules
    shown: tuple[set[str], set[str]] = set(), set()
    for _, pair in found.walk():
        if pair.call.kind != "module":
            continue
        one, other = pair.before, pair.after
        if one and other and one.path not in shown[0] and other.path not in shown[1]:
            pair.changes.extend(of_modules(old.get(one.path), new.get(other.path)))
        if one:
            shown[0].add(one.path)
        if other:
            shown[1].add(other.path)
    for path in dict.fromkeys([*old, *new]):
        if path not in shown[0] and path not in shown[1]:
            found.modules.extend(_uncalled(path, old.get(path), new.get(path)))


def _uncalled(path: str, before: ModuleInfo | None, after: ModuleInfo | None) -> Iterator[ModuleChange]:
    """A module without calls, if it is not as it was; what only holds others, and no parameters, is left to those."""
    info = after or before
    assert info is not None
    if before is None or after is None:
        if not info.container or info.parameters:
            yield ModuleChange(REMOVED if after is None else ADDED, path, type_of(info), info.parameters)
        return
    types = type_of(before), type_of(after)
    changes = [Change("type", *types)] if types[0] != types[1] else []
    changes.extend(of_modules(before, after))
    if before.state != after.state:
        changes.append(Change("state", before.state, after.state))
    if changes:
        yield ModuleChange(CHANGED, path, types[1], info.parameters, changes)
