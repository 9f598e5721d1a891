"""Dropout and BatchNorm that do what they do in training, in a run that is for inference."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tracecall.calls import Call, Finding, ModuleInfo, TensorSpec
from tracecall.diagnosis.recorded import Recorded, specs


def functions_in_train_mode(run: Recorded, call: Call) -> Iterator[Finding]:
    """Dropout or batch statistics at work in a run for inference, by a function that eval() does not reach."""
    inference = run.trace.settings.grad_mode != "grad"
    if call.kind != "operation" or call.internal or not (inference or not run.trace.model.training):
        return
    for effect in (_drops(call), _normalizes(run, call)):
        if effect is not None:
            why = "this run is for inference" if inference else "the model is in eval mode"
            yield Finding(
                "train-mode",
                f"{call.name} {effect}, though {why}: eval() reaches it only by training=self.training",
                call.path,
                run.site(call),
            )


def _drops(call: Call) -> str | None:
    given = {one.where: one.value for one in call.inputs}
    if call.type.endswith("dropout"):
        return f"drops values with p={given['p']}" if given.get("train") == "True" and _above_zero(given["p"]) else None
    # with gradients it comes in parts
    drawn = "aten.bernoulli_" in (call.operations or {})
    return "drops values at random" if drawn and re.search(r"dropout([123]d)?$", call.name) else None


def _above_zero(text: TensorSpec | str | None) -> bool:
    return isinstance(text, str) and text not in ("0", "0.0")


def _normalizes(run: Recorded, call: Call) -> str | None:
    """Batch statistics where running ones are there to be used; weights are normalized without any, on purpose."""
    given = {one.where: one.value for one in call.inputs}
    values = specs(call.inputs)
    batch = bool(values and values[0].shape and values[0].shape[0] == run.batch)
    if not (batch and call.type.startswith("aten.") and "batch_norm" in call.type):
        return None
    if not isinstance(given.get("running_mean"), TensorSpec) or given.get("training") != "True":
        return None
    return "normalizes by the statistics of this batch, which mixes its examples"


def modules_in_train_mode(run: Recorded) -> Iterator[Finding]:
    """Modules that behave otherwise in train mode and were called in a run for inference."""
    mode = run.trace.settings.grad_mode
    if mode == "grad":
        return
    called: dict[str, Call] = {}
    for call in run.calls:
        if call.kind == "module":
            called.setdefault(call.path, call)
    does = {"Dropout": "drops values at random", "BatchNorm": "mixes examples: it uses the statistics of this batch"}
    for kind, effect in does.items():
        paths = [path for path in called if _kind_in_train_mode(run.trace.modules.get(path)) == kind]
        if paths:
            named = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
            yield Finding(
                "train-mode",
                f"{named} ({kind}) ran in train mode in a run for inference ({mode.replace('_', ' ')}), where {kind} "
                f"{effect}; model.eval() first",
                paths[0],
                run.site(called[paths[0]]),
            )


def _kind_in_train_mode(info: ModuleInfo | None) -> str | None:
    if info is None or not info.training:
        return None
    if re.fullmatch(r"(Feature)?(Alpha)?Dropout[123]?d?", info.type):
        return None if re.match(r"p=0(\.0*)?(,|$)", info.extra_repr) else "Dropout"
    return "BatchNorm" if re.fullmatch(r"(Sync)?BatchNorm([123]d)?", info.type) else None
