"""What a recorded run is made of: Trace, Call and their parts, as plain data without torch.

Every struct can be written as JSON and is validated as it is read (`msgspec.json.decode(data, type=Trace)`).
Field names are fixed for users and saved files; fields may be added, never renamed.

Annotations are not put off here: msgspec would compile the text of each before it reads a file.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, field

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION = 1

# Whole numbers that a run can have. Only reading a file asks for them: to make a struct costs nothing more.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # of anything, of bytes and of nanoseconds
Repeats = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

Kind = Literal["module", "operation", "hook"]
# "unseen": not called where it could be seen; it is inside an opaque call, or operations were not recorded
State = Literal["called", "bypassed", "weights-used", "raised", "unused", "unseen"]


class TensorSpec(Struct, frozen=True, omit_defaults=True, gc=False):
    """A tensor without its numbers. `shape` holds ints, or formulas as text; sizes are in elements."""

    shape: tuple[Count | str, ...]
    dtype: str  # "float32": torch's name without "torch."
    device: str  # "cpu", "cuda:0"
    requires_grad: bool = False
    stride: tuple[Count | str, ...] | None = None  # in elements; None where the tensor is contiguous
    layout: str | None = None  # "sparse_coo", "jagged", "quantized"…; None for an ordinary dense tensor
    type: str | None = None  # the class, where it is not torch.Tensor itself


class Value(Struct, omit_defaults=True, gc=False):
    """One leaf of a call's inputs or output."""

    where: str  # the parameter's name and the way into it: "x", "mask", "x[0].logits"; "" for a bare output
    value: TensorSpec | str  # a tensor, or a short repr of anything else
    source: str | None = None  # what it came from: "conv1", "input x", "parameter pos_embed"
    span: tuple[Number, Number] | None = None  # smallest and largest of an integer tensor, where a run failed over it


class Site(Struct, frozen=True, omit_defaults=True, gc=False):
    """The exact expression that made a call. `line` and `column` count from 1; `text` is None without source."""

    file: str
    line: Count
    column: Count | None = None
    text: str | None = None
    function: str | None = None


class CallError(Struct, omit_defaults=True, gc=False):
    """The exception that left a call."""

    type: str
    message: str
    raised_here: bool = False  # no call inside this one raised it
    caught: bool = False  # the code around this call caught it and went on
    site: Site | None = None  # the expression or statement that raised it, where it was raised in this call


class Hook(Struct, frozen=True, omit_defaults=True, gc=False):
    """How a user's hook was registered."""

    when: Literal["forward pre-hook", "forward hook"]
    scope: Literal["module", "global"]
    with_kwargs: bool = False
    always_call: bool = False


class Spread(Struct, frozen=True, omit_defaults=True, gc=False):
    """What several calls took: together, and one of them."""

    total_ns: Count
    median_ns: Count
    least_ns: Count
    most_ns: Count


class Fold(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one line stands for: `count` repeats, alike but for their times.

    The times of its call are those of all repeats together; inside it are the calls of one, with the medians of all.
    With a `size` above 1 what repeats are several calls in turn: they are the children, in a call that was none.
    """

    count: Repeats
    first: str  # the names of the first and the last: "layers.0", "layers.31"
    last: str
    paths: list[str] = field(default_factory=list)  # of the modules that they call, each once
    host: Spread | None = None
    device: Spread | None = None
    size: Repeats = 1  # how many calls one repeat has, side by side
    inside: bool = False  # one of several that repeat in turn: its call's times are the medians of one repeat


class Call(Struct, omit_defaults=True, gc=False):
    """One run of a module's `__call__`, one operation, or one user hook. Times are in ns, None if not measured."""

    kind: Kind
    path: str  # of the module called; for the others, of the module whose code made the call
    name: str  # as the caller wrote it: "conv1", "F.relu", "x.view"
    type: str  # "Conv2d", "aten.relu", the hook's function
    inputs: list[Value] = field(default_factory=list)
    output: list[Value] = field(default_factory=list)
    site: Site | None = None
    host_ns: Count | None = None  # median of the timing runs, with the calls inside
    host_self_ns: Number | None = None  # the same without the calls inside; files of before may hold less than 0
    device_ns: Count | None = None  # the device's own work, without waiting for launches; median of the device runs
    device_self_ns: Count | None = None
    device_spread_ns: Count | None = None  # interquartile range of device_ns
    samples: Count | None = None  # how many runs the medians come from
    spread_ns: Count | None = None  # interquartile range of host_ns
    flops: Count | None = None
    output_bytes: Count | None = None
    device_memory: Count | None = None  # bytes: the peak inside, above what was allocated as the call began
    device_allocated: Number | None = None  # bytes: allocated as the call ended, less what was as it began
    error: CallError | None = None
    children: list["Call"] = field(default_factory=list)
    operations: dict[str, Count] | None = None  # of an operation: the aten operations under its expression, counted
    internal: bool = False  # an operation inside one of torch.nn's own forwards
    reads: list[str] | None = None  # parameters of other modules that this operation read
    hook: Hook | None = None  # of a hook: how it was registered
    changed: list[str] | None = None  # of a hook: what it replaced, "args[0] 4,3 → 2,3"
    opaque: str | None = None  # why nothing inside is seen: "ScriptModule"
    thread: str | None = None  # the thread's name, where it is not the one that the calls around it ran in
    fold: Fold | None = None  # of a folded trace: the repeats that this one stands for
    closed: bool = False  # what is inside is not to be shown: it is deeper than was asked for
    differs: str | None = None  # of a folded trace: settings in which modules on one line differ, "eps=1e-05…0.01"


class ModuleInfo(Struct, omit_defaults=True):
    """One module of the model. `parameters` and `buffers` count elements that are its own, not its submodules'."""

    path: str
    type: str
    aliases: list[str] = field(default_factory=list)  # other paths of the same object
    extra_repr: str = ""
    source: Site | None = None  # its forward
    signature: str = ""  # of its forward, "(x, mask=None)", where a call that did not fit it ended the run
    parameters: Count = 0
    trainable: Count = 0
    buffers: Count = 0
    parameter_bytes: Count = 0
    hooks: list[str] = field(default_factory=list)  # the user's own, as "forward hook name (file:line)"
    state: State = "unused"
    built_inside: bool = False  # by a forward: it is no part of the model
    container: bool = False  # it has no forward: a part of paths, never a call
    training: bool = False  # its own flag: Dropout drops, BatchNorm takes the statistics of the batch


class ModelInfo(Struct, omit_defaults=True):
    """The root. Parameters that several modules share are counted once."""

    name: str
    origin: str | None = None  # "models/cnn.py:14"
    parameters: Count = 0
    trainable: Count = 0
    training: bool = False


class Environment(Struct, omit_defaults=True):
    """Where the trace was made."""

    torch: str
    python: str
    devices: dict[str, str] = field(default_factory=dict)  # "cuda:0" → "NVIDIA H200"


class Settings(Struct, omit_defaults=True):
    """How the trace was made."""

    grad_mode: Literal["grad", "no_grad", "inference"] = "grad"
    operations: Literal["none", "forward", "all"] = "forward"
    device: str = "cpu"  # of the parameters; "cpu, cuda:0" where there are several
    dtype: str | None = None
    seed: Count | None = None
    notes: list[str] = field(default_factory=list)  # what the reader must know: "input inferred from fc1 (Linear)"


class Timing(Struct, omit_defaults=True):
    """The whole forward in nanoseconds, medians over `runs` each: with nothing attached, with clocks in hooks.

    On an accelerator both last until the device has done its work; `device_ns` is that work alone. `total_ns` is the
    host time of the root's call, and `self_ns` all calls' own added up. In each run the two are equal; medians need not
    be, where each run was slow at other calls.
    """

    untraced_ns: Count
    traced_ns: Count
    untraced_spread_ns: Count = 0
    traced_spread_ns: Count = 0
    runs: Count = 0
    device_ns: Count | None = None
    device_spread_ns: Count = 0
    bound: Literal["launches", "device"] | None = None  # what limits it; None on the CPU
    total_ns: Count | None = None
    self_ns: Count | None = None


class Finding(Struct, omit_defaults=True):
    """Something that the trace proves. `message` is one sentence; `site` the line that it is about."""

    kind: str
    message: str
    path: str = ""
    site: Site | None = None


class Fit(Struct, omit_defaults=True):
    """One thing that would make the run succeed, tried out on fake tensors."""

    text: str  # "an input of 28…31 × 28…31", "fc1 = nn.Linear(2048, 120)"
    command: str | None = None  # what to type, where it is an option: "--input 1,3,28,28"


class Cause(Struct, omit_defaults=True):
    """Why the run failed. Where that is not certain, the sentence says what is known and no more."""

    kind: str  # "linear-features", "view-size", "dtype", "unknown"…
    sentence: str  # "fc1 (Linear) takes 1568 features, got 2048 = 32·8·8 from pool, flattened at models/cnn.py:26"
    path: str = ""  # of the module whose call or code failed
    site: Site | None = None
    fits: list[Fit] = field(default_factory=list)


class Prediction(Struct, omit_defaults=True):
    """One tensor that the root returned: its shape and its first values, as numbers or text."""

    where: str
    tensor: TensorSpec
    values: list[float | int | bool | str] = field(default_factory=list)


class Trace(Struct):
    """Everything that one recorded run of a model says."""

    model: ModelInfo
    environment: Environment
    format_version: int = FORMAT_VERSION
    settings: Settings = field(default_factory=Settings)
    modules: dict[str, ModuleInfo] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: CallError | None = None
    timing: Timing | None = None
    prediction: list[Prediction] = field(default_factory=list)
    cause: Cause | None = None  # of a failed run: why, and what would fit

    def walk(self) -> Iterator[tuple[int, Call]]:
        """Every call with its depth, in call order; iterative, so that no depth of nesting is too deep."""
        open_calls = [(0, call) for call in reversed(self.calls)]
        while open_calls:
            depth, call = open_calls.pop()
            yield depth, call
            open_calls.extend((depth + 1, child) for child in reversed(call.children))

    def find(self, path: str) -> list[Call]:
        """The calls of the module at `path` (or at one of its aliases), in call order."""
        wanted = self._first_path(path)
        return [call for _, call in self.walk() if call.kind == "module" and call.path == wanted]

    def _first_path(self, path: str) -> str:
        """The path under which a module is listed: a part of `path` may be an alias, more than once."""
        aliases = {alias: info.path for info in self.modules.values() for alias in info.aliases}
        for _ in range(path.count(".") + 1):  # each round settles one name at least; a damaged file may go in circles
            if path in self.modules:
                break
            prefix = path
            while prefix and prefix not in aliases:
                prefix = prefix.rpartition(".")[0]
            if not prefix:
                return path
            path = aliases[prefix] + path[len(prefix) :]
            path = path.removeprefix(".")
        return path

    def failed(self) -> list[Call]:
        """The calls that the exception which ended the run came through, the innermost last."""
        found: list[Call] = []
        calls = self.calls
        while inner := next((call for call in reversed(calls) if call.error and not call.error.caught), None):
            found.append(inner)
            calls = inner.children
        return found

    def failing(self) -> Call | None:
        """The innermost call that the exception which ended the run came from; None if none did."""
        return next(reversed(self.failed()), None)

    def save(self, path: "str | Path") -> None:
        """Write it to a file for `tracecall.load` and `tracecall show`, gzipped where the name ends in .gz."""
        from tracecall.tracefile import save  # only saving needs it

        save(self, path)

    def __str__(self) -> str:
        from tracecall.views.tree import text  # only printing needs rich

        return text(self)

    def _repr_html_(self) -> str:
        from tracecall.views.html import fragment  # only a notebook asks for it

        return fragment(self)

    def __repr__(self) -> str:
        return f"<Trace of {self.model.name}: {sum(1 for _ in self.walk())} calls>"
