"""The failed run as rules read it: the calls that the exception came through, and what fed the innermost one."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracecall.calls import Call, CallError, Cause, ModuleInfo, Site, TensorSpec, Trace, Value
from tracecall.proposals import Proposal

Answer = tuple[Cause, list[Proposal]]

LONGEST_EXPRESSION = 60


@dataclass(frozen=True)
class Failure:
    """What every rule is given."""

    trace: Trace
    error: CallError
    calls: tuple[Call, ...]  # from the root to the innermost call that the exception came from
    parents: dict[int, Call | None] = field(repr=False, default_factory=dict)  # by the call's id

    @property
    def call(self) -> Call:
        """The innermost call."""
        return self.calls[-1]

    @property
    def operation(self) -> Call | None:
        """The innermost call, if it is an operation."""
        return self.call if self.call.kind == "operation" else None

    @property
    def module(self) -> Call:
        """The innermost call of a module."""
        return next((call for call in reversed(self.calls) if call.kind == "module"), self.call)

    @property
    def written(self) -> Call:
        """The innermost call that the model's own code asks for: not one inside torch.nn's forwards."""
        return next((call for call in reversed(self.calls) if call.site and not of_torch(call.site)), self.calls[0])

    @property
    def root(self) -> Call:
        """The outermost call."""
        return self.calls[0]

    def info(self, path: str) -> ModuleInfo:
        """What is known of the module at a path."""
        return self.trace.modules.get(path) or ModuleInfo(path, "")

    def cause(self, kind: str, sentence: str) -> Cause:
        """A Cause of this failure, at the expression in the model's own code."""
        site = self.written.site or self.error.site
        return Cause(kind, sentence, self.module.path, None if of_torch(site) else site)


def failure_of(trace: Trace) -> Failure | None:
    """The failure that ended a run; None if the run did not fail in a call."""
    chain: list[Call] = []
    calls = trace.calls
    while True:
        inner = next((call for call in reversed(calls) if call.error is not None and not call.error.caught), None)
        if inner is None:
            break
        chain.append(inner)
        calls = inner.children
    if not chain or chain[-1].error is None:
        return None
    parents: dict[int, Call | None] = {id(call): None for call in trace.calls}
    for _, call in trace.walk():
        for child in call.children:
            parents[id(child)] = call
    return Failure(trace, trace.error or chain[-1].error, tuple(chain), parents)


def of_torch(site: Site | None) -> bool:
    """Whether a line is torch's own."""
    return site is not None and site.file.replace("\\", "/").startswith("torch/")


def is_torch_module(failure: Failure, call: Call, *types: str) -> bool:
    """Whether a call is one of these modules of torch.nn, or of a class that runs their forward."""
    if call.kind != "module":
        return False
    source = failure.info(call.path).source
    if call.type in types:
        return source is None or of_torch(source)
    function = (source.function or "") if of_torch(source) and source is not None else ""
    return function.partition(".")[0] in types


def sizes(spec: TensorSpec) -> list[int]:
    """A shape, where every size is a number; else no sizes."""
    found = [size for size in spec.shape if isinstance(size, int)]
    return found if len(found) == len(spec.shape) else []


def tensors(call: Call) -> list[Value]:
    """The tensors that a call took."""
    return [value for value in call.inputs if isinstance(value.value, TensorSpec)]


def first(call: Call, *names: str) -> Value | None:
    """The first tensor among a call's inputs, or the first of these names."""
    found = tensors(call)
    if not names:
        return found[0] if found else None
    return next((value for name in names for value in found if value.where == name), None)


def spec_of(value: Value | None) -> TensorSpec | None:
    """The tensor of a Value, if it is one."""
    return value.value if value is not None and isinstance(value.value, TensorSpec) else None


def listed(shape: list[int] | tuple[int | str, ...]) -> str:
    """A shape as text: "[1, 3, 28, 28]"."""
    return f"[{', '.join(map(str, shape))}]"


def crossed(numbers: list[int] | tuple[int, ...]) -> str:
    """Sizes of an image as text: "28 × 28"."""
    return " × ".join(map(str, numbers))


def subject(failure: Failure, call: Call) -> str:
    """A call as a sentence names it: "fc1 (Linear)", or the expression of an operation."""
    if call.kind == "module":
        return f"{call.path} ({call.type})" if call.path else call.type
    text = call.site.text if call.site else None
    return text if text and len(text) <= LONGEST_EXPRESSION else call.name


def counted(number: int, word: str) -> str:
    """A number and what it counts: "1 channel", "3 channels"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def maker_name(call: Call) -> str:
    """What made a tensor, as a sentence names it."""
    return (call.path or call.type) if call.kind == "module" else call.name
