"""Findings on a run that succeeded, from its Trace alone: broadcasts, dtypes, devices, softmax, train mode.

Each needs its proof in the shapes, dtypes and devices that the Trace holds. What could also be meant as it is written
(an explicit unsqueeze, an explicit cast, dimensions that may be no batch) is no finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tracecall.calls import Call, Finding, Trace, Value
from tracecall.diagnosis.recorded import Recorded, sizes, specs, tensors
from tracecall.diagnosis.train_mode import functions_in_train_mode, modules_in_train_mode

_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
_ELEMENTWISE = frozenset({"aten.add", "aten.sub", "aten.mul", "aten.div", "aten.maximum", "aten.minimum", "aten.pow"})
_RESHAPES = frozenset({
    "aten.unsqueeze", "aten.view", "aten.reshape", "aten._unsafe_view", "aten.squeeze", "aten.flatten",
    "aten.unflatten", "aten.t", "aten.transpose", "aten.permute", "aten.expand", "aten.index", "aten.slice",
    "aten.select", "aten.as_strided", "aten.alias", "aten._reshape_alias",
})  # fmt: skip
_REDUCTIONS = frozenset({"aten.mean", "aten.sum", "aten.amax", "aten.amin", "aten.norm", "aten.std", "aten.var"})
_MATRICES = frozenset({"aten.linear", "aten.addmm", "aten.mm", "aten.matmul"})
_CASTS = frozenset({"aten.to", "aten._to_copy", "aten.type_as"})
_SOFTMAX = frozenset({"aten.softmax", "aten._softmax", "aten.log_softmax", "aten._log_softmax"})
_SOFTMAX_MODULES = frozenset({"Softmax", "LogSoftmax"})


def findings(trace: Trace) -> list[Finding]:
    """Every finding that the Trace of a run without an error proves, in call order; none of a run that failed."""
    if trace.error is not None:
        return []
    run = Recorded(trace)
    found: list[Finding] = []
    for call in run.calls:
        for check in (_broadcast, _promotion, _softmax, functions_in_train_mode):
            found.extend(check(run, call))
    found.extend(_cpu_detour(run))
    return [*_each_once(found), *modules_in_train_mode(run)]


def _broadcast(run: Recorded, call: Call) -> Iterator[Finding]:
    """[N] with [N, 1] makes [N, N]: every example meets every other one."""
    # a loss broadcasts its inputs first, as an operation of its own
    expands = (call.operations or {}).get("aten.expand") == 2 or "aten.broadcast_tensors" in (call.operations or {})
    if call.kind != "operation" or call.internal or not (call.type in _ELEMENTWISE or expands):
        return
    if not isinstance(run.batch, int) or run.batch < 2:
        return
    given = tensors(call)
    if len(given) != 2:
        return
    (first, one), (second, other) = given if len(given[0][1].shape) == 1 else given[::-1]
    size = run.batch
    if one.shape != (size,) or other.shape != (size, 1) or one.dtype not in _BITS or other.dtype not in _BITS:
        return
    out = specs(call.output)
    if len(out) != 1 or out[0].shape not in ((size, size), *([()] if expands else [])):
        return
    # whoever adds a dimension on purpose, or takes one away from the same tensor, wants all pairs
    row = run.maker(call, first)
    if not _column_by_itself(run, call, second):
        return
    if row is not None and row.type in _RESHAPES and any(one.source == second.source for one in row.inputs):
        return
    yield Finding(
        "broadcast",
        f"{call.name} puts {sizes(one.shape)} with {sizes(other.shape)}: both are broadcast to [{size}, {size}], "
        f"so each of the {size} examples meets all {size}",
        call.path,
        run.site(call),
    )


def _column_by_itself(run: Recorded, call: Call, value: Value) -> bool:
    """Whether [N, 1] came as it is from a module, a sum or mean, or an input: nobody added a dimension to [N]."""
    while True:
        maker = run.maker(call, value)
        if maker is None:
            return (value.source or "").startswith("input ")
        given = tensors(maker)
        if maker.kind == "module" or maker.type in _MATRICES:
            return bool(given) and len(given[0][1].shape) > 1
        if len(given) != 1 or maker.type in _RESHAPES:
            return False
        if maker.type in _REDUCTIONS:
            return len(given[0][1].shape) > 1
        call, value = maker, given[0][0]  # sigmoid(fc(x)) is a column because fc(x) is


def _promotion(run: Recorded, call: Call) -> Iterator[Finding]:
    """A tensor of higher precision, made in a forward or kept in a buffer, drags the others up to its dtype."""
    if call.kind != "operation" or call.internal or call.type in _CASTS:
        return
    given = [(value, spec) for value, spec in tensors(call) if spec.dtype in _BITS and spec.shape]
    out = [spec for spec in specs(call.output) if spec.dtype in _BITS]
    if len(given) < 2 or len(out) != 1:
        return
    high_value, high = max(given, key=lambda one: _BITS[one[1].dtype])
    low_value, low = min(given, key=lambda one: _BITS[one[1].dtype])
    if not _BITS[low.dtype] < _BITS[high.dtype] == _BITS[out[0].dtype]:
        return
    if (low_value.source or "").startswith(("parameter ", "buffer ")) or not _unintended(run, call, high_value):
        return
    if high.dtype != "float64" and _autocast(run, low.dtype):
        return
    came = f" from {high_value.source}" if high_value.source else ""
    yield Finding(
        "dtype-promotion",
        f"{call.name} takes {low.dtype}{sizes(low.shape)} and {high.dtype}{sizes(high.shape)}{came}: "
        f"its result is {out[0].dtype}",
        call.path,
        run.site(call),
    )


def _unintended(run: Recorded, call: Call, value: Value) -> bool:
    """Whether a tensor of higher precision was made without a cast: by torch.ones and the like, or kept in a buffer."""
    if (value.source or "").startswith("buffer "):
        return True
    maker = run.maker(call, value)
    return maker is not None and maker.kind == "operation" and maker.type not in _CASTS and not specs(maker.inputs)


def _autocast(run: Recorded, dtype: str) -> bool:
    """Whether a dtype comes from neither inputs nor parameters: autocast chose it, and mixes dtypes on purpose."""
    halves = any(info.parameters and info.parameter_bytes < 4 * info.parameters for info in run.trace.modules.values())
    return not halves and all(spec.dtype != dtype for spec in run.inputs)


def _softmax(run: Recorded, call: Call) -> Iterator[Finding]:
    """A softmax along the batch: the probabilities of one example depend on the others."""
    given = specs(call.inputs)
    if not given or len(given[0].shape) < 2 or given[0].shape[0] != run.batch or run.batch is None:
        return
    shape = given[0].shape
    if call.kind == "operation" and not call.internal and call.type in _SOFTMAX:
        text = next((one.value for one in call.inputs if one.where == "dim"), None)
        chosen = int(text) if isinstance(text, str) and re.fullmatch(r"-?\d+", text) else None
    elif call.kind == "module" and call.type in _SOFTMAX_MODULES:
        info = run.trace.modules.get(call.path)
        match = re.search(r"dim=(-?\d+|None)", info.extra_repr) if info is not None else None
        # without dim torch takes 0 for three dimensions, 1 for two or four
        chosen = None if match is None else (0 if len(shape) == 3 else 1) if match[1] == "None" else int(match[1])
    else:
        return
    if chosen is None or chosen % len(shape) != 0:
        return
    if not (_returned_scores(run, call) or (run.batch_is_first() and run.batch_is_returned())):
        return
    yield Finding(
        "softmax-over-batch",
        f"{call.name} sums to 1 along dimension 0 of {sizes(shape)}, which is the batch: "
        f"the scores of one example depend on the others; for the {shape[-1]} scores of each, dim=-1",
        call.path,
        run.site(call),
    )


def _returned_scores(run: Recorded, call: Call) -> bool:
    """Whether the softmax of (N, classes) is what the model returns for an input (N, features), and N is no length."""
    root = run.trace.calls[0]
    out = specs(root.output)
    if run.above.get(id(call)) is not root or root.children[-1] is not call or len(out) != 1:
        return False
    shape = out[0].shape
    return len(run.inputs[0].shape) == 2 and len(shape) == 2 and shape == specs(call.output)[0].shape and shape[1] != 1


def _cpu_detour(run: Recorded) -> Iterator[Finding]:
    """Data leaves the accelerator for the CPU and comes back: the device waits twice."""
    left: tuple[Call, str] | None = None
    for call in run.calls:
        if call.kind != "operation" or call.type not in _CASTS:
            continue
        given, out = specs(call.inputs), specs(call.output)
        if len(out) != 1 or not given or not out[0].shape:
            continue
        before, after = given[0].device, out[0].device
        if before != "cpu" and after == "cpu":
            left = left or (call, before)
        elif before == "cpu" and left is not None and after == left[1] and _from_cpu(run, call):
            gone, device = left
            where = run.site(call)
            yield Finding(
                "cpu-detour",
                f"{gone.name} brings {sizes(specs(gone.output)[0].shape)} from {device} to the CPU in the middle, and "
                f"{call.name}" + (f" at {where.file}:{where.line}" if where else "") + " brings data back",
                gone.path,
                run.site(gone),
            )
            left = None


def _from_cpu(run: Recorded, call: Call) -> bool:
    """Whether what goes to the accelerator was computed, not an input, a parameter or a constant."""
    value, _ = tensors(call)[0]
    maker = run.maker(call, value)
    return maker is not None and (maker.kind == "module" or bool(specs(maker.inputs)))


def _each_once(found: list[Finding]) -> list[Finding]:
    """A line that runs in a loop, or in each of many like modules, is told once."""
    kept: dict[tuple[str, object], Finding] = {}
    for one in found:
        key = (one.kind, (one.site.file, one.site.line, one.site.column) if one.site else one.message)
        kept.setdefault(key, one)
    return list(kept.values())
