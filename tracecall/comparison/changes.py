"""What is not the same in two calls, or in two modules of the same path: as text, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from msgspec import Struct

from tracecall.calls import Call, Finding, ModuleInfo, TensorSpec, Trace, Value

_SCRIPTED = ("RecursiveScriptModule", "ScriptModule", "TopLevelTracedModule", "TracedModule")
_ORIGINAL = "original_name="  # all that the `extra_repr` of one of these tells


class Change(Struct, frozen=True):
    """One thing that is not as it was: "output shape", "parameters"; both sides as text."""

    what: str
    before: str
    after: str


class ModuleChange(Struct, omit_defaults=True):
    """A module that no call of both traces shows: added (+), removed (−), or changed (→) without being called."""

    sign: str
    path: str
    type: str
    parameters: int = 0
    changes: list[Change] = []


def type_of(info: ModuleInfo) -> str:
    """The class of a module; of one that TorchScript has put in its place, the class that it was made from."""
    return info.extra_repr.removeprefix(_ORIGINAL) if info.type in _SCRIPTED and _scripted(info) else info.type


def type_in(trace: Trace, call: Call) -> str:
    """The type of a call of this trace, with `type_of` for a module's."""
    info = trace.modules.get(call.path) if call.kind == "module" else None
    return type_of(info) if info is not None and info.type == call.type else call.type


def model_of(trace: Trace) -> str:
    """The class of the model, with `type_of`."""
    root = trace.modules.get("")
    return type_of(root) if root is not None and root.type == trace.model.name else trace.model.name


def of_calls(before: Call, after: Call, types: tuple[str, str]) -> list[Change]:
    """Type, shapes, dtypes and devices of inputs and output, what was raised, what a hook replaced."""
    found = [Change("type", *types)] if types[0] != types[1] else []
    taken = _tensors(before.inputs), _tensors(after.inputs)
    given = _tensors(before.output), _tensors(after.output)
    if taken[0] != taken[1] or given[0] != given[1]:  # of most calls neither, and texts take their time
        for what, text in (("shape", _shapes), ("dtype", _dtypes), ("device", _devices)):
            found.extend(_both_ends(what, taken, given, text))
    for what, old, new in (
        ("error", _raised(before), _raised(after)),
        ("opaque", before.opaque, after.opaque),
        ("replaced", _replaced(before), _replaced(after)),
    ):
        if old != new:
            found.append(Change(what, old or "none", new or "none"))
    return found


def of_modules(before: ModuleInfo | None, after: ModuleInfo | None) -> Iterator[Change]:
    """Parameters and buffers of the module's own, how many are trained, and how it was made: "eps=1e-05"."""
    if before is None or after is None:
        return
    for what in ("parameters", "trainable", "buffers"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new and not (what == "trainable" and _all_trained(before) and _all_trained(after)):
            yield Change(what, f"{old:,}", f"{new:,}")
    if before.parameter_bytes != after.parameter_bytes and before.parameters == after.parameters:
        yield Change("parameter bytes", f"{before.parameter_bytes:,}", f"{after.parameter_bytes:,}")
    if before.extra_repr != after.extra_repr and not any(
        _scripted(info) or _exported(info) for info in (before, after)
    ):
        yield Change("made with", *_apart(before.extra_repr, after.extra_repr))
    if before.training != after.training:
        yield Change("mode", *("train" if info.training else "eval" for info in (before, after)))


def of_settings(before: Trace, after: Trace) -> tuple[list[Change], list[Change]]:
    """What is not the same in how both were run; then in where, which is no change of the model."""

    def unlike(pairs: dict[str, Callable[[Trace], object]]) -> list[Change]:
        texts = ((what, str(of(before) or "none"), str(of(after) or "none")) for what, of in pairs.items())
        return [Change(what, old, new) for what, old, new in texts if old != new]

    run = unlike(
        {
            "model": model_of,
            "parameters": lambda trace: f"{trace.model.parameters:,}",
            "device": lambda trace: trace.settings.device,
            "dtype": lambda trace: trace.settings.dtype or "the model's own",
            "mode": lambda trace: "train" if trace.model.training else "eval",
            "grad mode": lambda trace: trace.settings.grad_mode,
        }
    )
    place = unlike(
        {
            "torch": lambda trace: trace.environment.torch,
            "python": lambda trace: trace.environment.python,
            "machine": lambda trace: ", ".join(trace.environment.devices.values()),
            "seed": lambda trace: str(trace.settings.seed),
        }
    )
    return run, place


def of_findings(before: Trace, after: Trace) -> tuple[list[Finding], list[Finding]]:
    """Findings of one trace that the other lacks; the line they are about may have moved."""

    def lacking(one: Trace, other: Trace) -> list[Finding]:
        said = {(finding.kind, finding.path, finding.message) for finding in other.findings}
        return [finding for finding in one.findings if (finding.kind, finding.path, finding.message) not in said]

    return lacking(before, after), lacking(after, before)


Specs = list[TensorSpec]
Text = Callable[[Specs], str]


def _both_ends(what: str, inputs: tuple[Specs, Specs], output: tuple[Specs, Specs], text: Text) -> Iterator[Change]:
    """Of inputs and output, before and after; once, where both changed in the same way."""
    taken = text(inputs[0]), text(inputs[1])
    given = text(output[0]), text(output[1])
    if taken == given:
        if taken[0] != taken[1]:
            yield Change(what, *taken)
        return
    if taken[0] != taken[1]:
        yield Change(f"input {what}", *taken)
    if given[0] != given[1]:
        yield Change(f"output {what}", *given)


def _tensors(values: list[Value]) -> Specs:
    return [value.value for value in values if isinstance(value.value, TensorSpec)]


def _shapes(specs: list[TensorSpec]) -> str:
    """Equal neighbours are counted: "[1, 1] ×40"."""
    runs = ((f"[{', '.join(map(str, shape))}]", len(list(same))) for shape, same in groupby(s.shape for s in specs))
    return ", ".join(text if times == 1 else f"{text} ×{times}" for text, times in runs) or "none"


def _dtypes(specs: list[TensorSpec]) -> str:
    words = (" ".join(filter(None, (spec.type, spec.layout, spec.dtype))) for spec in specs)
    return ", ".join(dict.fromkeys(words)) or "none"


def _devices(specs: list[TensorSpec]) -> str:
    return ", ".join(dict.fromkeys(spec.device for spec in specs)) or "none"


def _raised(call: Call) -> str | None:
    return None if call.error is None else call.error.type + (", caught" if call.error.caught else "")


def _replaced(call: Call) -> str | None:
    return None if call.changed is None else ", ".join(call.changed) or "nothing"


def _scripted(info: ModuleInfo) -> bool:
    """Whether TorchScript made it, which does not tell what the module was made with."""
    return info.extra_repr.startswith(_ORIGINAL)


def _exported(info: ModuleInfo) -> bool:
    """Whether it is of a program of torch.export, which does not tell either: its code is in no file."""
    return not info.extra_repr and info.source is not None and info.source.file.startswith("<")


def _all_trained(info: ModuleInfo) -> bool:
    return info.trainable == info.parameters


def _apart(before: str, after: str) -> tuple[str, str]:
    """The parts of two `extra_repr`s that differ, where both have the same number of them."""
    old, new = before.split(", "), after.split(", ")
    if len(old) != len(new):
        return before or "nothing", after or "nothing"
    unlike = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
    one, other = (", ".join(parts) for parts in zip(*unlike, strict=True))
    return one or "nothing", other or "nothing"
