"""Two tensors whose product does not exist: matmul, bmm and einsum."""

from __future__ import annotations

import ast

from tracecall.calls import Call, Value
from tracecall.diagnosis.expressions import function_name, parsed, replaced, written
from tracecall.diagnosis.failure import Answer, Failure, listed, subject, tensors
from tracecall.diagnosis.origin import origin
from tracecall.diagnosis.shapes import broadcasts, sizes_of, sizes_of_inputs, swapped, unlike
from tracecall.proposals import OperandMethod, Proposal

_PRODUCTS = {"aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot", "aten.addmm", "aten.linear", "aten.expand"}


_NAMES = {"mm", "bmm", "matmul", "mv", "dot", "addmm", "linear"}


def matmul(failure: Failure) -> Answer | None:
    """A matrix product whose inner sizes or batches differ."""
    call = failure.operation
    pair = None if call is None else _factors(call)
    if call is None or pair is None or call.internal:
        return None
    (one, left), (two, right) = pair
    inner = right[-2] if len(right) > 1 else right[0]
    shown = f"{subject(failure, call)}: {listed(left)} @ {listed(right)}"
    if left[-1] != inner:
        made = origin(failure, call, one, -1)
        sentence = f"{shown}: rows of {left[-1]} meet columns of {inner}"
        if made is not None and made.merged_at is not None:
            sentence += f"; {made.text}"
        proposals = _transposed(call, left, right)
        if not proposals and call.type not in ("aten.addmm", "aten.linear"):
            dim = -2 if len(right) > 1 else -1
            proposals += sizes_of_inputs(failure, call, ((two, dim, left[-1]), (one, -1, inner)))
        return failure.cause("matmul", sentence), proposals
    if not broadcasts(left[:-2], right[:-2]):
        sentence = f"{shown}: batches of {_batch(left)} and {_batch(right)}"
        back = unlike(left[:-2], right[:-2])
        changes = ((two, -2 - back, left[-2 - back]), (one, -2 - back, right[-2 - back]))
        return failure.cause("matmul", sentence), sizes_of_inputs(failure, call, changes)
    if call.type == "aten.bmm" and left[0] != right[0]:
        others = sizes_of_inputs(failure, call, ((two, 0, left[0]), (one, 0, right[0])))
        return failure.cause("matmul", f"{shown}: batches of {left[0]} and {right[0]}"), others
    return None


def _batch(shape: list[int]) -> str:
    return "·".join(map(str, shape[:-2])) or "1"


def _factors(call: Call) -> tuple[tuple[Value, list[int]], tuple[Value, list[int]]] | None:
    """The two tensors of a matrix product, the second as (rows, columns)."""
    tree = parsed(call.site.text if call.site else None)
    name = (function_name(call) or "").rpartition(".")[2]
    is_operator = isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.MatMult)
    if not is_operator and name not in _NAMES:
        return None  # a product inside some other function: what met there is not what went in
    if call.type not in _PRODUCTS and call.type != "":
        return None
    found = tensors(call)
    if call.type == "aten.addmm":
        found = [value for value in found if value.where != "self"]
    if len(found) < 2:
        return None
    shapes = [sizes_of(value) for value in found[:2]]
    if not all(shapes):
        return None
    if "aten.transpose" in (call.operations or {}):
        # a matrix times a batch of them: torch exchanges the two, and takes the second first
        found, shapes = found[1::-1], shapes[1::-1]
    if call.type == "aten.linear":
        shapes[1] = shapes[1][::-1]
    return (found[0], shapes[0]), (found[1], shapes[1])


def _transposed(call: Call, left: list[int], right: list[int]) -> list[Proposal]:
    """The product with one side transposed, where that fits."""
    if call.site is None or call.type in ("aten.addmm", "aten.linear"):
        return []
    found = []
    for at, (one, two) in enumerate([(swapped(left), right), (left, swapped(right))]):
        inner = two[-2] if len(two) > 1 else two[0]
        text = replaced(call, at, ".transpose(-2, -1)")
        if len((left, right)[at]) > 1 and one[-1] == inner and text is not None:
            found.append(Proposal(text, [OperandMethod(call.site, at, "transpose", (-2, -1))]))
    return found[::-1]


def einsum(failure: Failure) -> Answer | None:
    """An einsum in which one letter stands for two sizes."""
    call = failure.operation
    tree = None if call is None else written(call)
    if call is None or tree is None or not ast.unparse(tree.func).endswith("einsum") or len(tree.args) < 2:
        return None
    equation, names = tree.args[0], [ast.unparse(item) for item in tree.args[1:]]
    found = tensors(call)
    shapes = {value.where: sizes_of(value) for value in found}
    if call.type == "aten.einsum" and len(found) == len(names):
        shapes = {name: sizes_of(value) for name, value in zip(names, found, strict=True)}
    if not isinstance(equation, ast.Constant) or not isinstance(equation.value, str) or "." in equation.value:
        return None
    terms = equation.value.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != len(names) or any(name not in shapes for name in names):
        return None
    seen: dict[str, tuple[int, str]] = {}
    for term, name in zip(terms, names, strict=True):
        shape = shapes[name]
        if len(term) != len(shape):
            sentence = f"{call.name} '{equation.value}': {name} is {listed(shape)}, {term} has {len(term)} letters"
            return failure.cause("einsum", sentence), []
        for letter, size in zip(term, shape, strict=True):
            known, where = seen.setdefault(letter, (size, name))
            if known != size and 1 not in (known, size):
                sentence = f"{call.name} '{equation.value}': {letter} is {known} in {where}, and {size} in {name}"
                return failure.cause("einsum", sentence), []
    return None
