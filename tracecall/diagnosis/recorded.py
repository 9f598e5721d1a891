"""A recorded run as findings ask of it: what made a tensor, which line called, what the batch is."""

from __future__ import annotations

import re
from collections import Counter

from tracecall.calls import Call, Site, TensorSpec, Trace, Value

# dimensions of an input that has a batch, by the first letters of the module's type: a Conv2d's (N, C, H, W)
_BATCHED = re.compile(r"(?:Conv|ConvTranspose|MaxPool|AvgPool|AdaptiveAvgPool|AdaptiveMaxPool|InstanceNorm)([123])d")


class Recorded:
    """A Trace with what several checks ask for: its calls in order and the call that made each input."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.calls = [call for _, call in trace.walk()]
        self.above: dict[int, Call] = {}
        self._labels: dict[int, dict[str, Call]] = {}  # siblings by the label that a Value's source has
        self._modules: dict[str, Call] = {}
        for siblings, above in [(trace.calls, None), *((call.children, call) for call in self.calls)]:
            self._list(siblings, above)
        self.inputs = [spec for call in trace.calls[:1] for spec in specs(call.inputs)]
        # the first tensor is what the model is about; without a dimension there is no batch
        self.batch = self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None

    def _list(self, siblings: list[Call], above: Call | None) -> None:
        totals, seen = Counter(call.name for call in siblings), Counter[str]()
        labels: dict[str, Call] = {}
        for call in siblings:
            seen[call.name] += 1
            labels[call.name if totals[call.name] == 1 else f"{call.name} #{seen[call.name]}"] = call
            if call.kind == "module":
                self._modules[call.path] = call
        for call in siblings:
            self._labels[id(call)] = labels
            if above is not None:
                self.above[id(call)] = above

    def maker(self, call: Call, value: Value) -> Call | None:
        """The call that made an input of `call`: one beside it, or a module elsewhere."""
        if value.source is None:
            return None
        return self._labels[id(call)].get(value.source) or self._modules.get(value.source)

    def site(self, call: Call) -> Site | None:
        """The line of the model's own code that a call came from."""
        found: Call | None = call
        while found is not None:
            if found.site is not None and not found.site.file.startswith("torch/"):
                return found.site
            found = self.above.get(id(found))
        return call.site

    def batch_is_first(self) -> bool:
        """Whether the first dimension is certainly the batch: a module that says so took a tensor that begins with it.

        A Conv2d, say, given four dimensions; a Linear takes any.
        """
        evidence = False
        for call in self.calls:
            shapes = [spec.shape for spec in specs(call.inputs)] if call.kind == "module" else []
            if not shapes or not shapes[0] or shapes[0][0] != self.batch:
                continue
            match = _BATCHED.fullmatch(call.type)
            if match is not None:
                evidence |= len(shapes[0]) == int(match[1]) + 2
            elif call.type in ("LSTM", "GRU", "RNN", "MultiheadAttention"):
                info = self.trace.modules.get(call.path)
                batched = len(shapes[0]) == 3 and info is not None and "batch_first=True" in info.extra_repr
                evidence |= batched
        return evidence

    def batch_is_returned(self) -> bool:
        """Whether every tensor that the model returned begins with the batch: a model that pools frames does not."""
        out = specs(self.trace.calls[0].output)
        return bool(out) and all(spec.shape[:1] == (self.batch,) for spec in out)


def specs(listed: list[Value]) -> list[TensorSpec]:
    """The tensors among values."""
    return [one.value for one in listed if isinstance(one.value, TensorSpec)]


def tensors(call: Call) -> list[tuple[Value, TensorSpec]]:
    """The tensors that a call was given, each beside the Value that says where and from what."""
    return [(one, one.value) for one in call.inputs if isinstance(one.value, TensorSpec)]


def sizes(shape: tuple[int | str, ...]) -> str:
    """A shape in a sentence: "[5, 1]"."""
    return "[" + ", ".join(map(str, shape)) + "]"
