"""Tensors of dtypes that do not go together, and operations that a device does not have for a dtype."""

from __future__ import annotations

import re

from tracecall.calls import Call, TensorSpec, Value
from tracecall.diagnosis.expressions import replaced
from tracecall.diagnosis.failure import Answer, Failure, maker_name, spec_of, subject, tensors
from tracecall.diagnosis.inputs import another_dtype, every_dtype
from tracecall.diagnosis.origin import root_input, way_back
from tracecall.proposals import ModelDtype, MoveTo, OperandMethod, Proposal

# torch's words for dtypes in its messages
_WORDS = {
    "Half": "float16", "Float": "float32", "Double": "float64", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip
_METHODS = {
    "float16": "half", "float32": "float", "float64": "double", "bfloat16": "bfloat16", "int64": "long",
}  # fmt: skip
_LACKS = re.compile(
    r"""(?:not implemented for|[Nn]ot supported\. Got|not supported for|[Uu]nsupported dtype) ['"]?(\w+)"""
)
_DIFFER = re.compile(r"same dtype|should be the same|mixed dtype|[Ss]calar ?type|data type|\bdtypes?\b|found dtype")
_LOOK_UPS = ("cross_entropy", "nll_loss", "gather", "scatter", "index", "take", "embedding", "one_hot")
_LOOK_UP_MODULES = ("Embedding", "EmbeddingBag", "CrossEntropyLoss", "NLLLoss")


def unsupported(failure: Failure) -> Answer | None:
    """An operation that torch has not for this dtype on this device."""
    found = _LACKS.search(failure.error.message)
    dtype = None if found is None else _WORDS.get(found.group(1), found.group(1))
    call = failure.operation or failure.module
    given = next((spec for value in tensors(call) if (spec := spec_of(value)) and spec.dtype == dtype), None)
    if dtype is None or given is None:
        return None
    device = given.device.partition(":")[0]
    name = subject(failure, failure.module if call.internal else call)
    sentence = f"{name}: torch {failure.trace.environment.torch} has no {_operation(call)} for {dtype} on {device}"
    if dtype not in ("float16", "bfloat16"):
        site = failure.written.site
        whole = dtype in ("int64", "int32", "int16", "int8", "uint8", "bool")
        proposals = []
        if site is not None and whole and (text := replaced(failure.written, 0, ".float()")):
            proposals.append(Proposal(text, [OperandMethod(site, 0, "float")]))
        return failure.cause("dtype-unsupported", sentence), proposals
    edits = [ModelDtype("float32"), *every_dtype(failure, (dtype,), "float32")]
    return failure.cause("dtype-unsupported", sentence), [Proposal("--dtype float32", edits, "--dtype float32")]


def _operation(call: Call) -> str:
    if not call.internal and call.name.startswith(("torch.", "F.")):
        return call.name
    return call.type.removeprefix("aten.") if call.type.startswith("aten.") else call.name


def differing(failure: Failure) -> Answer | None:
    """An operation on tensors of several dtypes that wants one."""
    call = failure.operation or failure.module
    if call.kind == "operation" and any(word in f"{call.type} {call.name}" for word in _LOOK_UPS):
        return None  # each of their tensors has a dtype of its own to be
    if not _DIFFER.search(failure.error.message):
        return None
    found = [(value, spec) for value in tensors(call) if (spec := spec_of(value)) is not None and spec.dtype != "bool"]
    dtypes = list(dict.fromkeys(spec.dtype for _, spec in found))
    if len(dtypes) < 2:
        return None
    if call.internal or (failure.module.kind == "module" and failure.call is failure.module):
        return None if failure.module.type in _LOOK_UP_MODULES else _module(failure, found)
    return _operands(failure, call, found)


def _module(failure: Failure, found: list[tuple[Value, TensorSpec]]) -> Answer | None:
    """A torch.nn module whose parameters have another dtype than its input."""
    call = failure.module
    given = next(((value, spec) for value in tensors(call) if (spec := spec_of(value)) is not None), None)
    if given is None:
        return None
    value, spec = given
    own = next((other.dtype for _, other in found if other.dtype != spec.dtype), None)
    if own is None:
        return None
    maker = next((stop for stop in way_back(failure, call, value) if stop.value is None), None)
    source = "" if maker is None else f" from {_made(maker.label, maker.call)}"
    sentence = f"{subject(failure, call)} has {own} parameters, got {spec.dtype}{source}"
    proposals = []
    root = root_input(failure, call, value)
    if spec.dtype.startswith("complex"):
        return failure.cause("dtype", sentence), []  # a real dtype would drop the imaginary parts
    if root is not None and own in _METHODS:
        given_one = another_dtype(failure, root.where, own)
        proposals.append(Proposal(f"{root.where}.{_METHODS[own]}()", given_one.edits, given_one.command))
    elif failure.written is call and call.site is not None and own in _METHODS:
        changed = replaced(call, 0, f".{_METHODS[own]}()")
        if changed is not None:
            proposals.append(Proposal(changed, [OperandMethod(call.site, 0, _METHODS[own])]))
    if own.startswith(("float", "bfloat")) and spec.dtype.startswith(("float", "bfloat")):
        edits = [ModelDtype(spec.dtype), *every_dtype(failure, (own,), spec.dtype)]
        proposals.append(Proposal(f"model.to(torch.{spec.dtype})", edits))
    return failure.cause("dtype", sentence), proposals


def _made(label: str, call: Call) -> str:
    if label == "input input":
        return "the input"
    return label if label.startswith(("input ", "parameter ", "buffer ")) else maker_name(call)


def _operands(failure: Failure, call: Call, found: list[tuple[Value, TensorSpec]]) -> Answer:
    """An operation in the model's own code."""
    told = []
    for value, spec in found:
        one = spec.dtype + (f" from {value.source}" if value.source else "")
        if one not in told:
            told.append(one)
    sentence = f"{subject(failure, call)} takes tensors of one dtype, got {' and '.join(told)}"
    proposals = []
    site = call.site
    floating = [spec.dtype for _, spec in found if spec.dtype.startswith(("float", "bfloat"))]
    wanted = floating[0] if floating else None
    if site is not None and wanted in _METHODS:
        for at, (_, spec) in enumerate(found[:2]):
            if spec.dtype != wanted and (text := replaced(call, at, f".{_METHODS[wanted]}()")):
                proposals.append(Proposal(text, [OperandMethod(site, at, _METHODS[wanted])]))
        if not proposals:
            proposals.append(Proposal(f"its tensors as {wanted}", [MoveTo(site, dtype=wanted)]))
    return failure.cause("dtype", sentence), proposals
