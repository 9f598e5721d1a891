"""Pairs as lines: which share one, and that every pair is in one."""

from __future__ import annotations

import random

import pytest

from tests.views.test_diff import layers
from tests.views.traces import module, operation, trace
from tracecall.calls import Call, CallError, Finding, Trace
from tracecall.comparison import Difference, compare
from tracecall.views.pairs import Line, Shared, name, tree_lines


def lines(found: Difference, fold: bool = True) -> list[Line]:
    """All of a tree, opened."""
    shared = Shared(found, fold=fold, seen=lambda _: True)
    return list(tree_lines(shared, lambda pairs, _: list(shared.inside(pairs))))


def names(before: Trace, after: Trace) -> list[str]:
    """The lines below the root's, with their signs."""
    return [f"{line.sign}{name(line.pairs)}" for line in lines(compare(before, after))[1:] if line.pairs is not None]


def flat(*called: str) -> Trace:
    """Modules by their names; one that starts with "." is an operation."""
    return trace(module("Net", "Net", (1,), (1,), *map(_call, called), path=""))


def _call(called: str) -> Call:
    if called[0] == ".":
        return operation(called[1:], "aten.add", (1,), (1,), line=9)
    return module(called, "Linear", (1,), (1,), line=8)


def test_calls_that_repeat_in_turn_share_a_line_over_theirs() -> None:
    """As in one trace: each of them with its first and last name."""
    called = [one for i in range(6) for one in (f"fc.{i}", ".x + y")]
    assert names(flat(*called), flat(*called)) == ["×6 in turn", "fc.0 … fc.5", "x + y"]


def test_what_is_added_alone_parts_the_others() -> None:
    """And what is added to many does not."""
    called = [f"fc.{i}" for i in range(8)]
    assert names(flat(*called), flat(*called[:4], ".x.relu", *called[4:])) == [
        "fc.0 … fc.3 ×4",
        "+x.relu",
        "fc.4 … fc.7 ×4",
    ]
    more = [one for each in called for one in (each, ".x.relu")]
    assert names(flat(*called), flat(*more)) == ["×8 in turn", "fc.0 … fc.7", "+x.relu"]


def test_a_call_that_failed_stands_alone() -> None:
    """With the calls that it is in."""
    before, after = layers(8), layers(8)
    for call in (after.calls[0].children[5], after.calls[0].children[5].children[0]):
        call.error = CallError("ValueError", "no", caught=True)
    assert [one for one in names(before, after) if "layers" in one] == [
        "layers.0 … layers.4 ×5",
        "→layers.5",
        "layers.6",
        "layers.7",
    ]


def test_modules_with_another_name_share_a_line() -> None:
    """As the index in a name is no other change."""
    before = trace(module("Net", "Net", (1,), (1,), *(module(f"a.{i}", "L", (1,), (1,)) for i in range(5)), path=""))
    after = trace(module("Net", "Net", (1,), (1,), *(module(f"b.{i}", "L", (1,), (1,)) for i in range(5)), path=""))
    assert names(before, after) == ["→b.0 … b.4 ×5"]


def growing(rounds: int, *odd: int) -> Trace:
    """A loop over one module, of sizes that grow; where it is odd, of others."""
    sizes = [(1, i * 10 if i in odd else i) for i in range(1, rounds + 1)]
    inside = [module("decoder", "Decoder", size, (1,), module("fc", "Linear", size, (1,))) for size in sizes]
    return trace(module("Net", "Net", (1,), (1,), *inside, path=""))


def test_the_rounds_of_a_loop_that_grows_share_a_line() -> None:
    """No line tells their sizes. One whose sizes changed keeps its own, as that is told."""
    assert names(growing(9), growing(9)) == ["decoder ×9", "fc"]
    assert names(growing(9), growing(9, 5)) == [
        *("decoder ×4", "fc"),
        *("→decoder", "→fc"),
        *("decoder ×4", "fc"),
    ]


def test_modules_that_differ_in_sizes_share_none() -> None:
    """They are several."""
    made = trace(
        module("Net", "Net", (1,), (1,), *(module(f"fc.{i}", "Linear", (i,), (1,)) for i in range(4)), path="")
    )
    assert names(made, made) == ["fc.0", "fc.1", "fc.2", "fc.3"]


@pytest.mark.parametrize("side", [0, 1])
def test_a_finding_sets_its_call_apart(side: int) -> None:
    """In either trace."""
    both = layers(8), layers(8)
    both[side].findings.append(Finding("dtype", path="layers.3", message="a dtype grows"))
    assert [one for one in names(*both) if "layers" in one] == [
        "layers.0 … layers.2 ×3",
        "layers.3",
        "layers.4 … layers.7 ×4",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_pair_is_in_one_line_with_those_like_it(seed: int) -> None:
    """Whatever repeats, and whatever changed."""
    chosen = random.Random(seed)
    found = compare(_random(chosen), _random(chosen))
    shown = lines(found)
    held = [pair for line in shown if line.pairs is not None and not line.in_turn for pair in line.pairs.all]
    assert sorted(map(id, held)) == sorted(id(pair) for _, pair in found.walk())
    for line in shown:
        if line.pairs is not None and not line.in_turn:
            changes = [[one for one in pair.changes if one.what != "name"] for pair in line.pairs.all]
            assert all(one == changes[0] for one in changes)
            assert len({(pair.sign, pair.types) for pair in line.pairs.all}) == 1
    assert len(shown) < len(held)
    assert [line.pairs.all for line in lines(found, fold=False) if line.pairs is not None] == [
        [pair] for _, pair in found.walk()
    ]


def _random(chosen: random.Random) -> Trace:
    return trace(module("Net", "Net", (1,), (1,), *_siblings(chosen, 0), path=""))


def _siblings(chosen: random.Random, depth: int) -> list[Call]:
    """Runs of the same few blocks, some with something of their own."""
    found: list[Call] = []
    while len(found) < 30 // (1 + depth):
        body = _siblings(chosen, depth + 1) if depth < 2 and chosen.random() < 0.5 else []
        size = chosen.choice((4, 8))
        for _ in range(chosen.choice((1, 3, 7))):
            made = module(f"b.{len(found)}", chosen.choice("A" * 20 + "B"), (size,), (size,), *body, line=depth)
            found.append(made)
            if chosen.random() < 0.3:
                found.append(operation("x + y", "aten.add", (size,), (size,), line=depth))
    return found
