"""Folding: what repeats becomes one line, what differs keeps its own, and nothing is lost on the way."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.views.traces import Shape, at, hook, module, operation, trace
from tracecall.calls import Call, CallError, Finding, ModuleInfo, Site, Trace
from tracecall.errors import TracecallError
from tracecall.folding import folded, limited, signatures
from tracecall.folding.repeats import LONGEST, Item, may_repeat, repeats


def block(i: int, us: float | None = 10, size: int = 8, *more: Call) -> Call:
    """A block of a model with two submodules."""
    path = f"layers.{i}"
    shape = (2, size)
    inside = [
        module("attn", "Attention", shape, shape, us=None if us is None else us * 0.6, path=f"{path}.attn"),
        module("mlp", "MLP", shape, shape, us=None if us is None else us * 0.4, path=f"{path}.mlp"),
    ]
    return module(path, "Block", shape, shape, *inside, *more, us=us, line=20)


def model(*children: Call, us: float | None = 1000, **more: object) -> Trace:
    """A trace of a root with some calls inside."""
    return trace(module("Net", "Net", (2, 8), (2, 8), *children, us=us, path=""), None, **more)


def lines(shown: Trace, calls: list[Call] | None = None) -> list[str]:
    """The calls right inside the root: a name, or the first and the last name and how often."""
    return [
        call.name
        if call.fold is None
        else f"({', '.join(child.name for child in call.children)}) x{call.fold.count}"
        if call.fold.size > 1
        else f"{call.fold.first} to {call.fold.last} x{call.fold.count}"
        for call in (shown.calls[0].children if calls is None else calls)
    ]


def represented(calls: list[Call]) -> int:
    """How many calls some lines stand for."""
    total = 0
    for call in calls:
        inside = represented(call.children)
        if call.fold is None or call.fold.inside:
            total += 1 + inside
        else:
            total += call.fold.count * (inside if call.fold.size > 1 else 1 + inside)
    return total


def number(shown: Trace) -> int:
    return sum(1 for _ in shown.walk())


# what folds


def test_repeated_siblings_are_one_line_that_keeps_the_differences():
    """How many, the first and the last name, the time of all, and that of one: median, least and most."""
    shown = folded(model(*(block(i, 10 + i) for i in range(5))))
    (line,) = shown.calls[0].children
    assert line.fold is not None and line.fold.host is not None
    assert (line.fold.count, line.fold.first, line.fold.last) == (5, "layers.0", "layers.4")
    assert line.fold.paths == [f"layers.{i}" for i in range(5)]
    assert line.host_ns == line.fold.host.total_ns == 60_000
    assert (line.fold.host.median_ns, line.fold.host.least_ns, line.fold.host.most_ns) == (12_000, 10_000, 14_000)


def test_inside_a_folded_line_is_one_of_them_with_medians():
    """The structure of the first; each time is the median over the repeats."""
    (line,) = folded(model(*(block(i, us) for i, us in enumerate([10, 11, 30])))).calls[0].children
    assert [(call.name, call.path, call.host_ns) for call in line.children] == [
        ("attn", "layers.0.attn", 6600),
        ("mlp", "layers.0.mlp", 4400),
    ]


def test_two_are_no_repeat():
    """Two equal lines are easier to read than a folded one."""
    assert lines(folded(model(block(0), block(1)))) == ["layers.0", "layers.1"]


def test_written_out_on_lines_of_its_own_it_folds_from_six_on():
    """Three calls that someone wrote one below the other are to be found there; a loop is one line of code."""

    def written(count: int) -> Trace:
        return model(*(module(f"fc{i}", "Linear", (2, 8), (2, 8), line=20 + i) for i in range(count)))

    assert lines(folded(written(5))) == [f"fc{i}" for i in range(5)]
    assert lines(folded(written(6))) == ["fc0 to fc5 x6"]


def test_the_same_module_again_and_again():
    """pool #1 … pool #200: one name, one path."""
    shown = folded(model(*(module("pool", "Pool", (2, 8), (2, 8), us=1) for _ in range(200))))
    assert lines(shown) == ["pool to pool x200"]
    assert shown.calls[0].children[0].fold.paths == ["pool"]


def test_several_siblings_in_turn():
    """attn, mlp, attn, mlp …: one line over one of each."""
    pairs = [
        module(f"{kind}.{i}", kind.upper(), (2, 8), (2, 8), us=i + (5 if kind == "mlp" else 1))
        for i in range(4)
        for kind in ("attn", "mlp")
    ]
    shown = folded(model(*pairs))
    assert lines(shown) == ["(attn.0, mlp.0) x4"]
    group = shown.calls[0].children[0]
    assert group.fold.size == 2
    assert group.host_ns == sum(call.host_ns for call in pairs)
    assert [(one.fold.first, one.fold.last, one.fold.inside) for one in group.children] == [
        ("attn.0", "attn.3", True),
        ("mlp.0", "mlp.3", True),
    ]
    assert [one.host_ns for one in group.children] == [2500, 6500]  # of one, by the median


def test_repeats_within_repeats():
    """The inner ones fold first, so that a, a, a, b, a, a, a, b … is found; their times are those of one outer."""
    inner = [module(f"a.{i}", "A", (2, 8), (2, 8), us=1) for i in range(3)]
    calls = [*inner, module("b", "B", (2, 8), (2, 8), us=2)] * 4
    group = folded(model(*calls)).calls[0].children[0]
    assert group.fold.count == 4
    assert lines(Trace, group.children) == ["a.0 to a.2 x3", "b to b x4"]
    assert group.children[0].host_ns == 3000


def test_a_group_starts_where_the_module_is_called():
    """After one that differs, the rest of its repeat does not shift the others."""
    calls = []
    for i in range(12):
        size = 16 if i == 6 else 8
        calls.append(module(f"layers.{i}", "Linear", (2, size), (2, 8)))
        calls.append(operation("F.relu", "aten.relu", (2, 8), (2, 8)))
    assert lines(folded(model(*calls))) == [
        "(layers.0, F.relu) x6",
        "layers.6",
        "F.relu",
        "(layers.7, F.relu) x5",
    ]


def test_a_group_starts_where_the_loop_does():
    """Its first line of code, which need not call a module; what was before the loop does not shift it."""

    def made(name: str, line: int) -> Call:
        return (
            module(name, "A", (2, 8), (2, 8), line=line)
            if name < "x"
            else operation(name, "aten.add", (2, 8), (2, 8), line=line)
        )

    rounds = [made("x + 1", 10), made("a", 11)] * 4
    assert lines(folded(model(made("a", 8), *rounds))) == ["a", "(x + 1, a) x4"]
    rounds = [made("a", 10), made("x + 1", 11), made("b", 12)] * 4
    assert lines(folded(model(made("b", 8), *rounds, made("b", 14)))) == ["b", "(a, x + 1, b) x4", "b"]


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ((0, 1, 2, 3), "layers.0 to layers.3 x4"),
        ((3, 2, 1, 0), "layers.3 to layers.0 x4"),
        ((0, 2, 4, 6), "layers.0 to layers.6 x4"),
        ((1, 1, 1, 1), "layers.1 to layers.1 x4"),
        ((0, 0, 0, 5), "layers.0, layers.5 x4"),
        ((0, 1, 0, 1), "layers.0, layers.1 x4"),
        ((3, 1, 0, 2), "layers.3, layers.1, layers.0, … x4"),
    ],
)
def test_a_range_has_every_module_in_it_once(order, name):
    """Where they do not count up or down, the line names them."""
    shown = folded(model(*[module(f"layers.{i}", "Linear", (2, 8), (2, 8)) for i in order]))
    (line,) = shown.calls[0].children
    told = line.fold.first if ", " in line.fold.first else f"{line.fold.first} to {line.fold.last}"
    assert f"{told} x{line.fold.count}" == name


def made_with(*each: str) -> Trace:
    """Blocks with a norm each, made with some settings."""
    made = model(*[block(i, 10, 8, module(f"layers.{i}.n", "Norm", (2, 8), (2, 8))) for i in range(len(each))])
    for i, one in enumerate(each):
        made.modules[f"layers.{i}.n"] = ModuleInfo(f"layers.{i}.n", "Norm", extra_repr=one, state="called")
    return made


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ("(8,), eps=1e-05, p=0.5", None),
        ("(8,), eps=0.01, p=0.5", "eps=1e-05…0.01"),
        ("(8,), eps=1e-09, p=0.9", "eps=1e-09…1e-05, p=0.5…0.9"),
        ("(16,), eps=1e-05, p=0.5", "(8,)…(16,)"),
    ],
)
def test_numbers_in_settings_may_differ_and_are_told(odd, told):
    """A layer of another epsilon or rate of dropout."""
    shown = folded(made_with(*["(8,), eps=1e-05, p=0.5"] * 3, odd, "(8,), eps=1e-05, p=0.5"))
    (line,) = shown.calls[0].children
    assert (line.fold.count, line.differs, line.children[-1].differs) == (5, None, told)


def test_other_words_in_settings_keep_a_call_apart():
    """They change what it does."""
    shown = made_with("'none'", "'none'", "'none'", "'tanh'", "'none'", "'none'", "'none'")
    assert lines(folded(shown)) == ["layers.0 to layers.2 x3", "layers.3", "layers.4 to layers.6 x3"]


def test_a_loop_that_grows_evenly_is_one_line():
    """The root called for each new token: the sizes that grow are ranges."""
    shown = model()
    shown.calls = [
        module("", "Net", (1, length), (1, length, 8), *(block(i, 10, length) for i in range(3)), us=40)
        for length in range(5, 25)
    ]
    (root,) = folded(shown).calls
    assert (root.fold.count, root.fold.paths) == (20, [""])
    assert root.inputs[0].value.shape == (1, "5…24")
    assert root.output[0].value.shape == (1, "5…24", 8)
    assert lines(shown, root.children) == ["layers.0 to layers.2 x3"]
    assert root.children[0].output[0].value.shape == (2, "5…24")
    assert root.children[0].host_ns == 30_000


def test_the_first_of_a_loop_may_be_longer():
    """A prompt of five tokens, then one at a time."""
    shown = model()
    shown.calls = [module("", "Net", (1, length), (1, 8), us=40) for length in (5, 1, 1, 1, 1)]
    assert [call.fold and call.fold.count for call in folded(shown).calls] == [None, 4]


# what does not


@pytest.mark.parametrize(
    "odd",
    [
        block(3, 10, 16),
        block(3, 10, 8, operation("x * 2", "aten.mul", (2, 8), (2, 8), path="layers.3")),
        module("layers.3", "Other", (2, 8), (2, 8), *block(3).children, us=10, line=20),
        module("layers.3", "Block", (2, 8), (2, 8), us=10, line=20),
        block(3, 100),
        block(3, 1),
        block(3, 10, 8, module("x", "X", (2, 8), None, error=CallError("E", "", caught=True))),
    ],
    ids=["shape", "structure", "type", "empty", "slow", "fast", "error"],
)
def test_one_that_differs_stands_on_its_own_line(odd):
    """Between those before it and those after."""
    calls = [odd if i == 3 else block(i, 10 + i % 2) for i in range(10)]
    shown = folded(model(*calls, us=200))
    assert lines(shown) == ["layers.0 to layers.2 x3", "layers.3", "layers.4 to layers.9 x6"]


def test_a_finding_about_one_of_them_keeps_it_apart():
    """One about each of them does not."""
    calls = [block(i) for i in range(7)]
    one = Finding("nonfinite", "…", "layers.3.mlp")
    assert lines(folded(model(*calls, findings=[one])))[1] == "layers.3"
    every = [Finding("nonfinite", "…", f"layers.{i}.mlp") for i in range(7)]
    assert lines(folded(model(*calls, findings=every))) == ["layers.0 to layers.6 x7"]


@pytest.mark.parametrize("told", [{"training": True}, {"parameters": 5}, {"trainable": 5}])
def test_a_module_that_differs_in_mode_or_parameters_stands_alone(told):
    """What a shape does not tell: it is frozen, has a bias, is in train mode."""
    shown = model(*(block(i) for i in range(7)))
    for name, value in told.items():
        setattr(shown.modules["layers.3.mlp"], name, value)
    assert lines(folded(shown))[1] == "layers.3"


def test_a_submodule_that_only_one_did_not_call():
    """It is in no call, but the modules say so."""
    shown = model(*(block(i) for i in range(7)))
    shown.modules["layers.3.drop"] = ModuleInfo("layers.3.drop", "Dropout", state="unused")
    assert lines(folded(shown))[1] == "layers.3"


def test_names_that_differ_by_more_than_a_number():
    """q_proj, k_proj and v_proj are alike, but three things."""
    calls = [module(name, "Linear", (2, 8), (2, 8)) for name in ("q_proj", "k_proj", "v_proj")]
    assert lines(folded(model(*calls))) == ["q_proj", "k_proj", "v_proj"]


def test_noise_is_not_far():
    """Short calls, calls whose own times vary as much, and times that are all over the place: the range shows it."""
    short = [block(i, 0.1 if i == 3 else 0.01) for i in range(10)]
    assert lines(folded(model(*short))) == ["layers.0 to layers.9 x10"]
    shaky = [block(i, 100 if i == 3 else 10) for i in range(10)]
    shaky[3].spread_ns = 200_000
    assert lines(folded(model(*shaky))) == ["layers.0 to layers.9 x10"]
    wild = [block(i, 10 if i % 4 else 100) for i in range(20)]
    assert lines(folded(model(*wild))) == ["layers.0 to layers.19 x20"]


def pairs(slow: dict[int, float], count: int = 200) -> Trace:
    """A model that calls `a` and `b` in turn; some calls of `a` are so much slower than the others."""
    calls = [
        module(name, name.upper(), (2, 8), (2, 8), us=slow.get(i, 1) if name == "a" else 1, line=20)
        for i in range(count)
        for name in "ab"
    ]
    return model(*calls, us=sum(call.host_ns or 0 for call in calls) / 1000)


def test_a_few_slow_ones_stand_where_they_were_called():
    """Among those that repeat in turn, the whole turn does."""
    assert lines(folded(pairs({50: 90}))) == ["(a, b) x50", "a", "b", "(a, b) x149"]
    assert lines(folded(pairs({50: 90, 51: 80, 120: 85}))) == [
        *["(a, b) x50", "a", "b", "a", "b"],
        *["(a, b) x68", "a", "b", "(a, b) x79"],
    ]


def test_many_slow_ones_are_no_exception():
    """They would part the others into as many lines; the range shows them."""
    shown = folded(pairs({7 + 4 * i: 90 + i for i in range(25)}))
    assert lines(shown) == ["(a, b) x200"]
    of_a = shown.calls[0].children[0].children[0].fold.host
    assert (of_a.median_ns, of_a.least_ns, of_a.most_ns) == (1000, 1000, 114_000)


def test_the_slowest_by_far_stands_out_among_many_slow_ones():
    """A first call that sets things up, before a loop that stumbles now and then."""
    assert lines(folded(pairs({0: 5000, **{7 + 8 * i: 90 + i for i in range(12)}}))) == ["a", "b", "(a, b) x199"]


def test_levels_of_a_recursion_stay():
    """Each holds the time of those inside it: the time of one would be true of none. `depth` closes them."""
    inner = module("self", "Rec", (2, 8), (2, 8), us=10, path="")
    for i in range(2, 30):
        fc = module("fc", "Linear", (2, 8), (2, 8), us=9, path="fc")
        inner = module("self", "Rec", (2, 8), (2, 8), fc, inner, us=10 * i, path="")
    shown = folded(model(inner, us=300))
    assert number(shown) == number(folded(model(inner, us=300), fold=False))
    assert [call.name for call in folded(shown, depth=2).calls[0].children[0].children] == ["fc", "self"]


def test_user_hooks_stay_as_they_are():
    """Each was registered by someone."""
    calls = [hook("log", "forward hook", line=40) for _ in range(4)]
    assert lines(folded(model(*calls))) == ["log"] * 4


def test_a_failed_run_shows_the_call_that_failed():
    """The way to it is in no folded line."""
    calls = [block(i) for i in range(5)]
    calls[-1].error = CallError("E", "m")
    calls[-1].children[-1].error = CallError("E", "m", True)
    made = model(*calls)
    made.calls[0].error = CallError("E", "m")
    shown = folded(made)
    assert lines(shown) == ["layers.0 to layers.3 x4", "layers.4"]
    assert shown.failing().path == "layers.4.mlp"


# nothing is lost


def _some(name: str, shape: Shape, children: list[Call], times: int) -> Call:
    """A module that calls each of its children some times."""
    repeated = [msgspec.json.decode(msgspec.json.encode(child), type=Call) for child in children for _ in range(times)]
    return module(name, name.upper(), shape, shape, *repeated, us=times)


def _any(chance: random.Random, level: int = 0) -> Call:
    children = [_any(chance, level + 1) for _ in range(chance.randrange(3))] if level < 3 else []
    return _some(chance.choice("ab"), chance.choice([(1,), (2,)]), children, chance.randrange(1, 5))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000))
def test_every_call_is_in_one_line(seed):
    """Counted with its repeats; the trace that was given is as it was; folding again changes nothing."""
    chance = random.Random(seed)
    made = model(*[_any(chance) for _ in range(chance.randrange(4))] * chance.randrange(1, 5))
    before = msgspec.json.encode(made)
    shown = folded(made)
    assert msgspec.json.encode(made) == before
    assert represented(shown.calls) == number(made)
    assert msgspec.json.encode(folded(shown)) == msgspec.json.encode(shown)


def test_not_to_fold():
    """A copy that is equal."""
    made = model(*(block(i) for i in range(5)))
    shown = folded(made, fold=False)
    assert shown is not made and shown == made


def test_a_model_of_a_thousand_levels():
    """No depth is too deep."""

    def deep() -> Call:
        call = module("m", "M", (1,), (1,), us=1, path="m")
        for _ in range(1000):
            call = module("m", "M", (1,), (1,), call, us=1, path="m")
        return call

    made = model()
    made.modules["m"] = ModuleInfo("m", "M", state="called")
    made.calls = [deep(), deep(), deep()]
    (line,) = folded(made, depth=1500, only="m", types="m").calls
    assert line.fold is not None and line.fold.count == 3
    assert sum(1 for _ in msgspec.structs.replace(made, calls=[line]).walk()) == 1001


def test_repeats_are_found_in_any_list():
    """What stands for a list is that list, whatever it holds."""
    numbers: dict[object, int] = {}
    for seed in range(300):
        chance = random.Random(seed)
        made = [chance.randrange(3) for _ in range(chance.randrange(40))] * chance.choice((1, 1, 3))
        items = [Item(i, one, one) for i, one in enumerate(made)]
        found = repeats(items, lambda *_: True, lambda key: numbers.setdefault(key, 100 + len(numbers)))

        def spelled(item: Item, made: list[int] = made) -> list[int]:
            once = [one for part in item.body for one in spelled(part)]
            return once * item.count if item.body else [made[item.start]]

        assert [one for item in found for one in spelled(item)] == made


def test_a_list_that_repeats_is_never_missed():
    """What is seen fast may be wrong where nothing repeats, and is looked at again; the other way round it is right."""
    for seed in range(500):
        chance = random.Random(seed)
        made = [chance.choice("abc") for _ in range(chance.randrange(3, 60))]
        found = any(
            made[at : at + period] * 3 == made[at : at + 3 * period]
            for period in range(1, min(LONGEST, len(made) // 3) + 1)
            for at in range(len(made) - 3 * period + 1)
        )
        assert may_repeat(made) or not found
    assert not may_repeat(range(1, 1000))


def test_what_differs_deep_inside_alone_stays_apart():
    """Blocks that look alike from outside, down to the first call inside, are told apart by all that is in them."""

    def outer(i: int, size: int) -> Call:
        inner = block(i, 10, 8, operation("torch.cat", "aten.cat", (2, 8), (2, size), path=f"layers.{i}"))
        return module(f"outer.{i}", "Outer", (2, 8), (2, 8), inner, path=f"outer.{i}", line=5)

    assert lines(folded(model(*[outer(i, i) for i in range(8)]))) == [f"outer.{i}" for i in range(8)]
    assert lines(folded(model(*[outer(i, 8) for i in range(8)]))) == ["outer.0 to outer.7 x8"]


def test_what_repeats_inside_calls_that_do_not():
    """Nothing beside them is alike, and still it is found."""
    made = [module(f"odd.{i}", "Odd", (2, i), (2, i), *[block(one) for one in range(i)], path="odd") for i in (3, 4)]
    odd = folded(model(*made)).calls[0].children
    assert [call.children[0].fold.count for call in odd if call.children[0].fold] == [3, 4]


# a part of it


def test_depth_closes_calls_and_keeps_what_is_inside():
    """A view counts it, and the call that failed is known."""
    made = model(block(0), block(1))
    shown = folded(made, depth=1)
    assert [call.closed for call in shown.calls[0].children] == [True, True]
    assert not any(call.closed for _, call in made.walk())
    assert number(shown) == number(made)
    assert folded(made, depth=0).calls[0].closed
    folded(made, depth=2)  # where calls that have nothing inside stand
    assert not any(call.closed for _, call in made.walk())
    assert limited(made, None) is made


def test_depth_counts_modules_not_groups():
    """Those that repeat in turn are on the level of their group."""
    pairs = [block(2 * i + j, 10, 8 + 8 * j) for i in range(4) for j in range(2)]
    group = folded(model(*pairs), depth=1).calls[0].children[0]
    assert not group.closed and [call.closed for call in group.children] == [True, True]


def paths(shown: Trace) -> list[str]:
    return [call.path for _, call in shown.walk() if call.kind == "module"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("layers.1", ["", "layers.1", "layers.1.attn", "layers.1.mlp"]),
        ("layers.*.attn", ["", "layers.0", "layers.0.attn", "layers.1", "layers.1.attn"]),
        ("layers.1.m*", ["", "layers.1", "layers.1.mlp"]),
        ("other.mlp", ["", "layers.1", "layers.1.mlp"]),
        ("other", ["", "layers.1", "layers.1.attn", "layers.1.mlp"]),
        ("layers", ["", "layers.0", "layers.0.attn", "layers.0.mlp", "layers.1", "layers.1.attn", "layers.1.mlp"]),
    ],
)
def test_only_one_module_with_the_way_to_it(only, expected):
    """By path, pattern or alias; a container stands for what is in it."""
    shown = model(block(0), operation("x + 1", "aten.add", (2, 8), (2, 8)), block(1))
    shown.modules["layers"] = ModuleInfo("layers", "ModuleList", container=True)
    shown.modules["layers.1"].aliases = ["other"]
    kept = folded(shown, only=only)
    assert paths(kept) == expected
    assert number(kept) == len(expected)  # operations on the way are left out


def test_only_some_types_with_the_way_to_them():
    """In any case, separated by commas; not what is inside, and operations of torch.nn's own forwards too."""
    inner = operation("F.linear", "aten.linear", (2, 8), (2, 8), path="layers.1.fc", internal=True)
    fc = module("fc", "Linear", (2, 8), (2, 8), inner, path="layers.1.fc")
    shown = model(block(0), block(1, 10, 8, fc))
    assert paths(folded(shown, types="linear")) == ["", "layers.1", "layers.1.fc"]
    assert number(folded(shown, types="linear")) == 3
    kept = folded(shown, types="aten.LINEAR, mlp")
    assert [(call.type, call.internal) for _, call in kept.walk()] == [
        ("Net", False),
        ("Block", False),
        ("MLP", False),
        ("Block", False),
        ("MLP", False),
        ("Linear", False),
        ("aten.linear", False),
    ]


def test_a_call_that_ended_the_run_is_never_left_out():
    """Whatever was asked for."""
    last = block(1)
    last.error = CallError("E", "m", True)
    shown = model(block(0), last)
    assert paths(folded(shown, only="layers.0.mlp")) == ["", "layers.0", "layers.0.mlp", "layers.1"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"only": "layers.0.mpl"}, "--only layers.0.mpl: Net has no module at that path; did you mean layers.0.mlp"),
        ({"only": "zzz"}, "--only zzz: Net has no module at that path; type one of head, layers"),
        ({"only": "mlp"}, "--only mlp: Net has no module at that path; did you mean layers.0.mlp or layers.1.mlp?"),
        (
            {"only": "head"},
            "--only head: head (Linear) was not called in this run (unused);"
            " type a path of one that was, for example layers.0",
        ),
        ({"types": "blok"}, "--filter blok: no call of that type in this run; did you mean Block?"),
        (
            {"types": "Block,zz"},
            "--filter zz: no call of that type in this run; type one of Net, Block, Attention, MLP",
        ),
        ({"types": ","}, "--filter ',' names no type; type one of Net, Block, Attention, MLP"),
    ],
)
def test_what_is_not_there_is_one_line(asked, expected):
    """What was given, what is near, what to type."""
    shown = model(block(0), block(1))
    shown.modules["head"] = ModuleInfo("head", "Linear")
    shown.modules["layers"] = ModuleInfo("layers", "ModuleList", container=True)
    with pytest.raises(TracecallError) as caught:
        folded(shown, **asked)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_sites_without_source_are_one_line_of_code():
    """A trace without sites folds as one with them."""
    calls = [module(f"a.{i}", "A", (2, 8), (2, 8)) for i in range(3)]
    for call in calls:
        call.site = Site("x.py", 3)
    assert calls[0].site != at(3)
    assert lines(folded(model(*calls))) == ["a.0 to a.2 x3"]


def test_a_path_of_many_names_that_was_not_called_is_read_once():
    """What is said of it belongs to the nearest module that was called; its hundred thousand starts are not made."""
    long = "layers.0." + ".".join("a" * 100_000)
    made = trace(module("Net", "Net", (1, 2), (1, 2), module("layers.0", "L", (1, 2), (1, 2)), path=""))
    for path, state in (("", "called"), ("layers.0", "called"), (long, "unused")):
        made.modules[path] = ModuleInfo(path, "M", state=state)
    folded_trace = folded(made)
    assert [call.path for call in folded_trace.calls[0].children] == ["layers.0"]
    assert list(signatures._remarks(made)) == ["layers.0"]
