"""Two models in lockstep: the error of every output that both make, in any amount of memory, and nothing left behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Call, Trace
from tracecall.comparison import compare
from tracecall.errors import TracecallError
from tracecall.recording.kept_outputs import kept
from tracecall.recording.lockstep import Lockstep, lockstep
from tracecall.recording.output_errors import OutputError, output_error
from tracecall.recording.sides import Side, moved, take_weights, twin
from tracecall.recording.tolerances import default_tolerance
from tracecall.recording.turns import add_times

NAN, INF = math.nan, math.inf


class Net(nn.Module):
    """Two Linears with an operation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.relu(self.norm(self.one(x))))


class Shifted(Net):
    """The same, with the middle a little off, and a call more."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.drop(F.relu(self.norm(self.one(x)) + 0.01)))


def side(model: nn.Module, *args: Any, name: str = "first") -> Side:
    torch.manual_seed(1)
    return Side(model, args or (torch.randn(5, 4),), {}, name)


def pairs(before: Trace, after: Trace) -> Iterable[tuple[Call, Call]]:
    return compare(before, after).both()


def errors(found: Lockstep) -> dict[str, OutputError]:
    """By name, in the order in which the calls ended."""
    names = {
        id(call): call.name if call.path or call.kind != "module" else "root" for _, call in found.traces[0].walk()
    }
    return {names[key]: error for key, error in found.errors.items()}


def both(first: nn.Module, second: nn.Module, *args: Any, **options: Any) -> Lockstep:
    one = side(first.eval(), *args)
    return lockstep(one, Side(second.eval(), one.args, {}, "second"), pairs, **options)


def twins(dtype: torch.dtype | None = None) -> tuple[Side, Side]:
    torch.manual_seed(0)
    one = side(Net().eval())
    return one, moved(twin(one), torch.device("cpu"), dtype)


# the error of one output


def error(first: object, second: object) -> OutputError:
    return output_error(kept(first), kept(second))


def test_the_numbers_of_an_error() -> None:
    """The largest difference, that by the largest value of either, and the cosine of the angle."""
    found = error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 5.0]))
    assert (found.max_abs, found.relative, found.elements) == (1.0, 0.2, 2)
    assert found.cosine == pytest.approx(29 / (5 * math.sqrt(34)))


def test_outputs_that_are_the_same_have_no_error() -> None:
    """Also of nothing but zeros."""
    for tensor in (torch.randn(9), torch.zeros(3)):
        found = error(tensor, tensor.clone())
        assert found.identical
        assert not found.beyond(0)
        assert (found.relative, found.cosine) == (0, 1)


def test_nan_equals_nan_and_inf_the_same_inf() -> None:
    """What is not finite on both sides alike is no error, and stays out of the numbers."""
    found = error(torch.tensor([NAN, INF, 1.0]), torch.tensor([NAN, INF, 1.0]))
    assert found.identical
    assert (found.relative, found.nonfinite, found.nonfinite_both) == (0, 0, 2)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_where_both_are_nan_or_inf_as_a_whole_nothing_is_measured(value: float) -> None:
    """They are alike, and counted; no number says how far they are apart."""
    found = error(torch.full((3,), value), torch.full((3,), value, dtype=torch.bfloat16))
    assert (found.max_abs, found.relative, found.cosine) == (None, None, None)
    assert (found.elements, found.nonfinite, found.nonfinite_both) == (3, 0, 3)
    assert (found.compared, found.same, found.measured, found.beyond(0)) == (True, True, False, False)
    opposite = error(torch.full((3,), INF), torch.full((3,), -INF))
    assert (opposite.nonfinite, opposite.nonfinite_both, opposite.max_abs) == (3, 0, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.complex64])
def test_of_no_elements_there_is_no_number(dtype: torch.dtype) -> None:
    """Two outputs of one shape, with nothing in them, are alike; beside others they are counted alone."""
    empty = torch.zeros(0, 3, dtype=dtype)
    found = error(empty, empty.clone())
    assert (found.max_abs, found.cosine, found.differing, found.empty, found.elements) == (None, None, None, 1, 0)
    assert (found.compared, found.identical, found.measured) == (True, True, False)
    beside = error((empty, torch.ones(2)), (empty, torch.ones(2) * 2))
    assert (beside.max_abs, beside.empty, beside.elements) == (1, 1, 2)


def test_the_same_numbers_in_other_dtypes_are_not_the_same_bits() -> None:
    """Both dtypes are told; a number of Python's has none, where the other run has a tensor."""
    found = error(torch.ones(2), torch.ones(2, dtype=torch.complex64))
    assert (found.dtypes, found.same, found.identical, found.beyond(0)) == (
        ("float32", "complex64"),
        True,
        False,
        False,
    )
    assert error(torch.ones(2, dtype=torch.int32), torch.ones(2, dtype=torch.int64)).dtypes == ("int32", "int64")
    assert error(1, torch.tensor(1.0)).dtypes is None


@pytest.mark.parametrize("other", [[1.0, 0.0], [1.0, -INF], [1.0, NAN]])
def test_one_sided_nan_or_inf_is_beyond_any_tolerance(other: list[float]) -> None:
    """They are counted, and the error of the rest is still told."""
    found = error(torch.tensor([1.0, INF]), torch.tensor(other))
    assert (found.nonfinite, found.max_abs) == (1, 0)
    assert found.beyond(1e9)


@pytest.mark.parametrize("first", [[1.0, 2.0, NAN], [1.0, INF, 0.0]])
def test_without_a_finite_pair_there_is_no_number(first: list[float]) -> None:
    """An output that is NaN as a whole in one run is compared, and as far apart as can be: nothing reads 0."""
    found = error(torch.tensor(first), torch.full((3,), NAN))
    assert (found.max_abs, found.relative, found.cosine) == (None, None, None)
    assert found.nonfinite >= 2
    assert found.compared
    assert found.beyond(1e9)
    assert not found.identical
    beside = error((torch.tensor(first), torch.ones(2)), (torch.full((3,), NAN), torch.ones(2) * 2))
    assert (beside.max_abs, beside.relative) == (1, 0.5)
    assert beside.nonfinite == found.nonfinite
    assert error(torch.full((3,), NAN), torch.full((3,), NAN)).identical


def test_another_nan_or_inf_in_each_is_told_from_one_in_one_alone() -> None:
    """Both runs are not finite there."""
    found = error(torch.tensor([NAN, INF, INF, 1.0, NAN]), torch.tensor([INF, -INF, 1.0, NAN, NAN]))
    assert (found.nonfinite, found.nonfinite_unlike, found.nonfinite_both) == (4, 2, 1)
    assert found.beyond(1e9)


def test_integers_and_booleans_are_counted() -> None:
    """A class index has no relative error: it is the same, or another."""
    found = error(torch.tensor([1, 2, 3]), torch.tensor([1, 5, 7]))
    assert (found.differing, found.elements, found.max_abs) == (2, 3, None)
    assert found.beyond(1e9)
    assert error(torch.tensor([True]), torch.tensor([True])).differing == 0


def test_large_values_do_not_overflow() -> None:
    """Squares of float64's largest would."""
    huge = torch.full((4,), 1e300, dtype=torch.float64)
    assert error(huge, huge * (1 + 1e-6)).cosine == pytest.approx(1)


def test_more_elements_than_a_chunk() -> None:
    """Chunks are of memory; the numbers are of the whole."""
    first = torch.ones(2**21 + 5)
    second = first.clone()
    second[-1] = 3
    found = error(first, second)
    assert (found.max_abs, found.elements) == (2, 2**21 + 5)
    assert found.relative == pytest.approx(2 / 3)


def test_complex_sparse_and_nested_outputs() -> None:
    """Complex numbers by their magnitude, sparse tensors made dense; nested ones are said to be left out."""
    assert error(torch.tensor([3 + 4j]), torch.tensor([3 + 3j])).max_abs == 1
    assert error(torch.eye(2).to_sparse(), torch.eye(2) * 2).max_abs == 1
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    found = error(nested, nested)
    assert (found.uncompared, found.beyond(0)) == (["NestedTensor"], False)


def test_outputs_of_several_tensors_belong_together_by_name() -> None:
    """The worst of each number; one that is only on one side, or of another shape, is beyond any tolerance."""
    found = error({"a": torch.ones(2), "b": torch.ones(2)}, {"b": torch.ones(2) * 2, "a": torch.ones(2)})
    assert (found.max_abs, found.elements) == (1, 4)
    assert error((torch.ones(1), torch.ones(1)), (torch.ones(1),)).structures == ("a tensor", "none at [1]")
    assert error({"a": torch.ones(1)}, {"a": torch.ones(1), "b": 3}).structures == ("none", "an int at ['b']")
    assert error(torch.ones(1, 2), torch.ones(2)).shapes == ("1,2", "2")


def test_a_tensor_at_another_place_is_compared_all_the_same() -> None:
    """Tensors without a partner, as many and of the same shapes, go by their order; where they were is a difference."""
    for other, words in (
        ({"y": torch.ones(2) * 2}, ("a tensor", "a dict")),
        ((torch.ones(2) * 2, "b"), ("a tensor", "a tuple")),
        ([[torch.ones(2) * 2]], ("a tensor", "a list")),
    ):
        found = error(torch.ones(2), other)
        assert (found.structures, found.shapes, found.relative, found.elements) == (words, None, 0.5, 2)
        assert found.beyond(1e9)
    assert not error(torch.ones(2), {"y": torch.ones(2)}).same
    one, two = torch.ones(2), torch.ones(2) * 2
    renamed = error({"a": one, "b": two}, {"b": two, "c": one})  # those of one name belong together first
    assert (renamed.structures, renamed.max_abs) == (("['a']", "['c']"), 0)
    for other in ({"y": torch.ones(3)}, {"y": torch.ones(2), "z": torch.ones(2)}):
        apart = error(torch.ones(2), other)
        assert (apart.structures, apart.max_abs) == (("a tensor", "a dict"), None)


def test_what_is_empty_in_one_run_only_says_less_than_what_the_other_has() -> None:
    """The tensor is named, and not the list without any."""
    assert error([], [torch.ones(1)]).structures == ("none", "a tensor at [0]")
    assert error({"a": [torch.ones(1)]}, {"a": []}).structures == ("a tensor", "none at ['a'][0]")
    assert error(torch.ones(1), {}).structures == ("a tensor", "an empty dict")
    assert error(None, {"a": torch.ones(1)}).structures == ("None", "a dict")


@pytest.mark.parametrize("count", [64, 65, 100, 1000])
@pytest.mark.parametrize("made", [list, lambda tensors: dict(enumerate(tensors)), lambda tensors: {"a": [tensors]}])
def test_every_tensor_of_an_output_is_compared(count: int, made: Callable[[list[Tensor]], object]) -> None:
    """Also those beyond what a Trace lists."""
    first = [torch.ones(1) for _ in range(count)]
    found = error(made(first), made([*first[:-1], torch.ones(1) * 2]))
    assert (found.max_abs, found.elements) == (1, count)


def test_keys_that_are_shortened_to_the_same_text_are_apart() -> None:
    """A long key of a dict is not shown whole, and no tensor stands in for another."""
    keys = ["k" * 99 + end for end in "ab"]
    found = error({key: torch.zeros(1) for key in keys}, dict(zip(keys, (torch.ones(1), torch.zeros(1)), strict=True)))
    assert (found.max_abs, found.elements) == (1, 2)


@pytest.mark.parametrize(("one", "other"), [(1.0, 2.0), (1, 2.0), (2.0, 1), (1.0, NAN), (1j, 2j), (1.0, 10**400)])
def test_a_float_among_the_outputs_is_measured(one: complex, other: complex) -> None:
    """As a tensor of it would be; within the tolerance where it is near."""
    assert error({"loss": one}, {"loss": other}).beyond(0.01)
    assert error({"loss": one}, {"loss": one}).identical
    assert not error(1.0, 1.0 + 1e-6).beyond(0.01)


@pytest.mark.parametrize(
    ("one", "other"), [(1, 2), (True, False), ("a", "b"), (None, 1), (10**400, 1), ([], ()), (b"", b"a")]
)
def test_what_has_no_distance_is_the_same_or_another(one: object, other: object) -> None:
    """Integers, texts and None are counted as the elements of integer tensors are."""
    found = error((one, torch.ones(1)), (other, torch.ones(1)))
    assert (found.differing, found.elements, found.max_abs) == (1, 2, 0)
    assert found.beyond(1e9)
    assert error(one, one).identical


def test_a_tensor_is_no_text() -> None:
    """What is of another kind in the other run is beyond any tolerance."""
    assert error(torch.ones(2), "ones").structures == ("a tensor", "a str")
    assert error((None,), (torch.ones(2),)).structures == ("None", "a tensor at [0]")
    assert error(object(), nn.ReLU()).structures == ("an object", "a ReLU")


def test_a_part_that_is_none_may_as_well_be_missing() -> None:
    """Kernels of two devices return as many empty parts as they like."""
    assert error((torch.ones(1), None), (torch.ones(1),)).identical
    assert error((torch.ones(1),), (torch.ones(1), None)).identical
    assert error((torch.ones(1),), (torch.ones(1), 3)).structures == ("none", "an int at [1]")


def test_an_object_is_not_compared_and_not_identical() -> None:
    """None of its own code is run, and it is named."""

    class Weird:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    found = error(Weird(), Weird())
    assert (found.objects, found.compared, found.identical, found.beyond(0)) == (["Weird"], False, False, False)
    some = error((Weird(), torch.ones(1)), (Weird(), torch.ones(1)))
    assert (some.left_out, some.compared, some.elements) == (["Weird"], True, 1)
    endless: list[object] = [torch.ones(1)]
    endless.append(endless)
    assert error(endless, endless).left_out == ["<list, nested too deep>"]


def test_what_is_kept_is_a_copy() -> None:
    """A model may write into its own outputs."""
    tensor = torch.ones(2)
    found = kept(tensor)
    tensor.add_(1)
    copy = found.leaves[0][1]
    assert isinstance(copy, Tensor)
    assert copy.tolist() == [1, 1]


# two models


def test_every_output_is_compared_as_its_call_ends() -> None:
    """Modules and operations, the root last."""
    found = lockstep(*twins(), pairs)
    assert list(errors(found)) == ["one", "norm", "F.relu", "two", "root"]
    assert all(error.identical for error in found.errors.values())


def test_the_first_call_that_parts_is_the_first_that_is_wrong() -> None:
    """What comes before is the same to the last bit; what the other does more is left out."""
    first, second = Net(), Shifted()
    take_weights(first, second)
    found = errors(both(first, second))
    assert [name for name, error in found.items() if error.beyond(1e-4)] == ["F.relu", "two", "root"]
    assert found["norm"].identical


def test_a_narrower_dtype_is_near() -> None:
    """The same weights in bfloat16 are off by some of its roundings, and not by more."""
    first, second = twins(torch.bfloat16)
    found = lockstep(first, second, pairs)
    assert all(0 < (error.relative or 0) < 0.05 for error in found.errors.values())


@pytest.mark.parametrize("most_bytes", [0, 1, 100, 300, 10**6])
def test_memory_limits_what_is_kept_and_not_what_is_compared(most_bytes: int) -> None:
    """Where outputs do not fit, both run again for the rest; the numbers are the same."""
    expected = [error.relative for error in lockstep(*twins(torch.float16), pairs).errors.values()]
    found = lockstep(*twins(torch.float16), pairs, most_bytes=max(1, most_bytes))
    assert [error.relative for error in found.errors.values()] == expected
    assert found.uncompared == 0
    assert (found.passes == 1) == (most_bytes == 10**6)


def test_dropout_drops_the_same_in_both() -> None:
    """Every run starts from the same random state, in train mode too; nothing of the buffers stays changed."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8)).train()
    first = side(model)
    second = twin(first)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = lockstep(first, second, pairs, inference=False, most_bytes=1)
    assert all(error.identical for error in found.errors.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_an_input_that_is_written_into_is_whole_in_every_run() -> None:
    """Each run has its own copy, and the caller's is left alone."""

    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1)

    x = torch.zeros(3)
    found = both(Writes(), Writes(), x, most_bytes=1)
    assert all(error.identical for error in found.errors.values())
    assert x.tolist() == [0, 0, 0]


def test_a_module_that_is_called_often_is_compared_call_by_call() -> None:
    """By its number among the calls of that module."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.fc(x)
            return x

    one = side(Loop().eval(), torch.ones(1, 3))
    found = lockstep(one, twin(one), pairs)
    assert len(found.errors) == 4
    assert found.uncompared == 0


def test_a_forward_that_raises_ends_its_side() -> None:
    """The calls before it are compared; the exception is in the Trace."""

    class Breaks(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.one(x)
            raise ValueError("no")

    found = both(Net(), Breaks())
    assert found.traces[1].error is not None
    assert list(errors(found)) == ["one"]


def test_an_exception_that_is_caught_closes_its_call() -> None:
    """What comes after it is matched as it was."""

    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bad, self.good = Bad(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            try:
                x = self.bad(x)
            except ValueError:
                x = x + 1
            return self.good(x)

    one = side(Catches().eval())
    found = lockstep(one, twin(one), pairs)
    assert list(errors(found)) == ["x + 1", "good", "root"]


def test_the_root_is_what_the_model_returned() -> None:
    """After its own hooks; those of submodules change what the next calls get."""
    first, second = Net(), Net()
    take_weights(first, second)
    second.register_forward_hook(lambda module, args, output: output + 1)
    found = errors(both(first, second))
    assert found["two"].identical
    assert found["root"].max_abs == pytest.approx(1)


def test_nothing_is_left_behind() -> None:
    """No hook, no mode, no gradient mode, and torch's random state as it was."""
    first, second = twins()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    lockstep(first, second, pairs)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert torch._C._len_torch_dispatch_stack() == 0
    assert not torch.is_inference_mode_enabled()


def test_times_of_two_turns_that_differ_are_noise() -> None:
    """A machine that was busy in one of them makes a wide spread, not another time."""
    first, _ = twins()
    one, other, into = (lockstep(first, first, pairs).traces[0] for _ in range(3))
    for trace, ns in ((one, 100), (other, 5100)):
        for _, call in trace.walk():
            call.host_ns, call.spread_ns, call.samples = ns, 10, 5
    assert add_times(into, [one, other])
    assert {(call.host_ns, call.spread_ns, call.samples) for _, call in into.walk()} == {(2600, 5000, 10)}


def test_times_of_other_calls_are_left_out() -> None:
    """They are those of another run."""
    traces = both(Net(), Shifted()).traces
    assert not add_times(traces[0], [traces[1]])


# sides


def test_a_twin_has_weights_of_its_own() -> None:
    """Equal, and moved alone."""
    first, second = twins(torch.float64)
    assert torch.equal(first.model.one.weight.double(), second.model.one.weight)  # type: ignore[union-attr, operator, arg-type]
    assert first.args[0].dtype is torch.float32
    assert second.args[0].dtype is torch.float64


def test_a_lazy_model_has_its_weights_before_it_is_copied() -> None:
    """Otherwise each would make its own."""
    one = side(nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)).eval())
    found = lockstep(one, moved(twin(one), torch.device("cpu"), torch.float64), pairs)
    assert all((error.relative or 0) < 1e-6 for error in found.errors.values())
    assert len(found.errors) == 4


def test_integer_inputs_keep_their_dtype() -> None:
    """A dtype is for what is floating."""
    found = moved(side(nn.Embedding(5, 2), torch.tensor([1, 2])), torch.device("cpu"), torch.bfloat16)
    assert found.args[0].dtype is torch.int64


def test_a_model_that_cannot_be_copied_is_refused_in_a_line() -> None:
    """With what to type."""

    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lines = (line for line in ("a",))

    with pytest.raises(TracecallError, match=r"^Holds cannot be copied .*type --against with the same MODEL$"):
        twin(side(Holds()))


def test_weights_are_taken_over_by_name_and_shape() -> None:
    """The others stay, and are counted."""
    first, second = Net(), Net()
    second.two = nn.Linear(8, 7)
    assert take_weights(first, second) == (7, 9)
    assert torch.equal(first.one.weight, second.one.weight)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 1e-2), (torch.float64, 1e-4)],
)
def test_the_default_tolerance_is_of_the_coarser_dtype(dtype: torch.dtype, tolerance: float) -> None:
    """float32 against float64 is as float32."""
    assert default_tolerance(twins(dtype))[0] == tolerance
