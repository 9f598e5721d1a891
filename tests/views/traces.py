"""Traces built by hand, so that a tree can be drawn in a test without torch and without a clock."""

from __future__ import annotations

from tracecall.calls import (
    Call,
    CallError,
    Environment,
    Hook,
    ModelInfo,
    ModuleInfo,
    Prediction,
    Settings,
    Site,
    TensorSpec,
    Timing,
    Trace,
    Value,
)

Shape = tuple[int, ...]
FILE = "models/net.py"


def spec(shape: Shape, dtype: str = "float32", device: str = "cpu") -> TensorSpec:
    """A tensor."""
    return TensorSpec(shape, dtype, device)


def at(line: int | None, file: str = FILE) -> Site | None:
    """A line of the model's own file."""
    return None if line is None else Site(file, line)


def module(
    name: str,
    type: str,
    taken: Shape | TensorSpec,
    given: Shape | TensorSpec | None,
    *children: Call,
    us: float | None = None,
    line: int | None = None,
    path: str | None = None,
    source: str | None = None,
    error: CallError | None = None,
) -> Call:
    """A module call; `path` is its name unless told, `us` its host time in microseconds."""
    return Call(
        "module",
        name if path is None else path,
        name,
        type,
        inputs=[Value("x", taken if isinstance(taken, TensorSpec) else spec(taken), source)],
        output=[] if given is None else [Value("", given if isinstance(given, TensorSpec) else spec(given))],
        site=at(line),
        host_ns=None if us is None else round(us * 1000),
        error=error,
        children=list(children),
    )


def operation(
    name: str,
    type: str,
    taken: Shape,
    given: Shape | None,
    *more: Value,
    us: float | None = None,
    line: int | None = None,
    internal: bool = False,
    path: str = "",
    source: str | None = None,
    error: CallError | None = None,
) -> Call:
    """An operation; `more` are its arguments after the first tensor."""
    return Call(
        "operation",
        path,
        name,
        type,
        inputs=[Value("self", spec(taken), source), *more],
        output=[] if given is None else [Value("", spec(given))],
        site=at(line),
        host_ns=None if us is None else round(us * 1000),
        internal=internal,
        error=error,
    )


def hook(name: str, when: str, changed: list[str] | None = None, path: str = "", line: int | None = None) -> Call:
    """A user's hook: "forward pre-hook" or "forward hook"."""
    return Call(
        "hook",
        path,
        name,
        name,
        site=at(line),
        changed=changed,
        hook=Hook("forward pre-hook" if when == "forward pre-hook" else "forward hook", "module"),
    )


def trace(root: Call, parameters: dict[str, int] | None = None, **more: object) -> Trace:
    """A Trace of one root call of a model in models/net.py; `parameters` gives each module's own."""
    own = parameters or {}
    paths = {"": root.type, **{call.path: call.type for call in _modules(root)}}
    made = Trace(
        model=ModelInfo(root.type, "models/net.py:8", sum(own.values()), sum(own.values())),
        environment=Environment("2.13.0", "3.11.2", {"cpu": "x86_64"}),
        settings=Settings(grad_mode="inference"),
        modules={
            path: ModuleInfo(path, type, parameters=own.get(path, 0), state="called") for path, type in paths.items()
        },
        calls=[root],
    )
    made.modules[""].source = Site(FILE, 20)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def _modules(root: Call) -> list[Call]:
    found = [root] if root.kind == "module" else []
    return [*found, *(inner for child in root.children for inner in _modules(child))]


def cnn() -> Trace:
    """The CNN demo with made-up times: one pool module that is called twice, operations between the submodules."""
    root = module(
        "CNN",
        "CNN",
        (1, 3, 28, 28),
        (1, 10),
        module("conv1", "Conv2d", (1, 3, 28, 28), (1, 16, 28, 28), us=60, line=25, source="input x"),
        operation("F.relu", "aten.relu", (1, 16, 28, 28), (1, 16, 28, 28), us=15.25, line=25, source="conv1"),
        module("pool", "MaxPool2d", (1, 16, 28, 28), (1, 16, 14, 14), us=30, line=25, source="F.relu #1"),
        module("conv2", "Conv2d", (1, 16, 14, 14), (1, 32, 14, 14), us=90, line=26, source="pool #1"),
        operation("F.relu", "aten.relu", (1, 32, 14, 14), (1, 32, 14, 14), us=7.5, line=26, source="conv2"),
        module("pool", "MaxPool2d", (1, 32, 14, 14), (1, 32, 7, 7), us=20, line=26, source="F.relu #2"),
        operation("x.view", "aten.view", (1, 32, 7, 7), (1, 1568), us=3, line=27, source="pool #2"),
        module("fc1", "Linear", (1, 1568), (1, 120), us=40, line=28, source="x.view"),
        operation("F.relu", "aten.relu", (1, 120), (1, 120), us=2.75, line=28, source="fc1"),
        module("fc2", "Linear", (1, 120), (1, 10), us=10, line=29, source="F.relu #3"),
        us=300,
        path="",
    )
    return trace(
        root,
        {"conv1": 448, "conv2": 4640, "fc1": 188_280, "fc2": 1210},
        timing=Timing(untraced_ns=290_000, traced_ns=320_000, runs=100),
        prediction=[Prediction("", spec((1, 10)), [0.03125, -0.125, 0.5, 1.0, 2.0, -3.0])],
    )
