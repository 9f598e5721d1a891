"""What became of each module: called, bypassed, weights-used, raised, unused; each with its proof."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tracecall
from tests.models.states import States
from tests.zoo.drawing import drawing, drawn, only
from tracecall.calls import Finding, Trace

ROOT = Path(__file__).parents[2]
FILE = "tests/models/states.py"
X = torch.ones(2, 5)


def line_of(text: str) -> int:
    """The line of states.py that holds a text."""
    lines = (ROOT / FILE).read_text().splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if text in line]
    return found


def states(trace: Trace) -> dict[str, str]:
    """The state of every module."""
    return {path: info.state for path, info in trace.modules.items()}


def about(trace: Trace, kind: str) -> Finding:
    """The only finding of that kind."""
    (found,) = [finding for finding in trace.findings if finding.kind == kind]
    return found


PROOFS = [
    ("bypassed", "bypassed", "self.bypassed.forward(x)"),
    ("weights-used", "weights_used", "F.linear(x, self.weights_used.weight)"),
    ("raised-and-caught", "picky", "self.picky(x)"),
    ("unused", "unused", "self.unused = nn.Linear(5, 5)"),
]


def test_the_states_are_told_apart() -> None:
    """Issue 3, show 3: one model with all of them."""
    assert states(tracecall.trace(States(), X)) == {
        "": "called",
        "called": "called",
        "bypassed": "bypassed",
        "weights_used": "weights-used",
        "picky": "raised",
        "unused": "unused",
    }


@pytest.mark.parametrize(("kind", "path", "text"), PROOFS)
def test_each_state_is_proved_by_a_line(kind: str, path: str, text: str) -> None:
    """A finding with path, file, line and expression."""
    finding = about(tracecall.trace(States(), X), kind)
    assert finding.path == path
    assert path in finding.message
    assert finding.site is not None
    assert (finding.site.file, finding.site.line, finding.site.text) == (FILE, line_of(text), text)


def test_the_tree_shows_what_ran_for_each() -> None:
    """A bypassed module's operations are there, under its path; no call of it."""
    trace = tracecall.trace(States(), X)
    assert drawn(trace, internal=True, sources=False).splitlines()[0] == "States [2,5] → [2,5]"
    assert [(call.kind, call.name, call.path) for call in trace.calls[0].children] == [
        ("module", "called", "called"),
        ("operation", "bypassed.forward", "bypassed"),
        ("operation", "F.linear", ""),
        ("module", "picky", "picky"),
        ("operation", "x + 1", ""),
    ]
    assert only(trace, "bypassed.forward").reads is None
    (used,) = [call for call in trace.calls[0].children if call.name == "F.linear"]
    assert used.reads == ["weights_used.weight"]


@pytest.fixture(scope="module")
def output() -> str:
    """What the command line prints about the model file."""
    command = [sys.executable, "-m", "tracecall", "run", f"{FILE}:States", "--input", "2,5"]
    wide = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("kind", "path", "text"), PROOFS)
def test_the_command_line_tells_them_apart(kind: str, path: str, text: str, output: str) -> None:
    """Each with its file, line and expression, next to each other."""
    lines = output.splitlines()
    place = f"{FILE}:{line_of(text)}"
    (at,) = [number for number, line in enumerate(lines) if place in line and text in line]
    assert path in lines[at - 1]


# weights-used


def test_the_projection_of_multihead_attention_is_weights_used() -> None:
    """nn.MultiheadAttention reads out_proj's weight and never calls it."""
    model = nn.MultiheadAttention(4, 2).train()
    trace = tracecall.trace(model, *[torch.ones(3, 1, 4)] * 3)
    assert states(trace) == {"": "called", "out_proj": "weights-used"}
    finding = about(trace, "weights-used")
    assert finding.path == "out_proj"
    assert finding.site is not None
    assert finding.site.text is not None
    assert "multi_head_attention_forward" in finding.site.text


class Tied(nn.Module):
    """The output layer is the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.linear(self.embed(ids), self.embed.weight)


def test_a_tied_head_that_is_not_called_is_weights_used() -> None:
    """Its weight took part, through the embedding's; it itself was not called."""
    trace = tracecall.trace(Tied(), torch.tensor([1, 2]))
    assert states(trace) == {"": "called", "embed": "called", "head": "weights-used"}


def test_a_tied_head_that_is_called_is_called() -> None:
    """Two modules that share a weight read their own."""

    class Model(Tied):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    trace = tracecall.trace(Model(), torch.tensor([1, 2]))
    assert states(trace) == {"": "called", "embed": "called", "head": "called"}
    assert trace.findings == []


def test_an_own_parameter_is_nobodys_business() -> None:
    """A module's own parameter, read in its own forward, is no finding."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    trace = tracecall.trace(nn.Sequential(Own()), X)
    assert trace.findings == []
    assert only(trace, "x * self.weight").reads is None


def test_a_parameter_in_a_list_is_its_owners() -> None:
    """nn.ParameterList is a container: what it holds belongs to the module around it."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = nn.ParameterList([nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for scale in self.scales:
                x = x * scale
            return x

    trace = tracecall.trace(Listed(), X)
    assert trace.findings == []
    assert trace.modules["scales"].container


# bypassed, and what is none


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + 1


class Derived(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


class Explicit(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Base.forward(self, x) * 2


@pytest.mark.parametrize("kind", [Derived, Explicit])
def test_a_forward_of_the_base_class_is_no_bypass(kind: type[nn.Module]) -> None:
    """`super().forward(x)` runs the same module's forward, with its hooks around."""
    trace = tracecall.trace(nn.Sequential(kind(), kind()), X)
    assert set(states(trace).values()) == {"called"}
    assert trace.findings == []


@pytest.mark.parametrize("decorator", [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")])
def test_a_decorated_forward_is_no_bypass(decorator: Any) -> None:
    """The wrapper calls the function that it wraps: the same module, the same call."""

    class Decorated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        @decorator
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) * 2

    trace = tracecall.trace(nn.Sequential(Decorated(), Decorated()), X)
    assert set(states(trace).values()) == {"called"}
    assert trace.findings == []
    assert trace.modules["0"].source is not None
    assert trace.modules["0"].source.file == "tests/zoo/test_states.py"


def test_a_forward_set_on_the_instance_is_no_bypass() -> None:
    """`module.forward = wrapper`, which calls the original: as many tools patch."""
    model = nn.Sequential(Base())
    original = model[0].forward
    model[0].forward = lambda x: original(x) * 2
    trace = tracecall.trace(model, X)
    assert set(states(trace).values()) == {"called"}
    assert trace.findings == []


def test_a_bypassed_module_without_operations_is_bypassed_too() -> None:
    """Its submodules were called, through its forward: the bypass is seen from their callers."""

    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Passing()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner.forward(x)

    trace = tracecall.trace(Model(), X)
    assert states(trace) == {"": "called", "inner": "bypassed", "inner.fc": "called"}
    finding = about(trace, "bypassed")
    assert finding.site is not None
    assert finding.site.text == "self.inner.forward(x)"
    assert drawn(trace, operations=False) == drawing("""
        Model [2,5] → [2,5]
          inner.fc Linear [2,5] → [2,5] ← input x
    """)


def test_a_bypass_inside_a_bypass_is_seen() -> None:
    """Both forwards were called directly, each with its own line."""

    class Middle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc.forward(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.middle = Middle()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.middle.forward(x)

    trace = tracecall.trace(Model(), X)
    assert states(trace) == {"": "called", "middle": "bypassed", "middle.fc": "bypassed"}
    assert {finding.path: finding.site.text for finding in trace.findings if finding.site} == {
        "middle": "self.middle.forward(x)",
        "middle.fc": "self.fc.forward(x)",
    }


def test_a_module_that_was_called_and_bypassed_is_called_with_the_finding() -> None:
    """The bypass is told although the module was called elsewhere."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc.forward(self.fc(x))

    trace = tracecall.trace(Both(), X)
    assert states(trace)["fc"] == "called"
    assert about(trace, "bypassed").path == "fc"


def test_a_direct_forward_of_the_root_is_a_bypass() -> None:
    """What the learner asks: `model.forward(x)` instead of `model(x)`."""
    model = Base()
    with tracecall.tracing(model) as trace:
        model.forward(X)
    assert states(trace) == {"": "bypassed", "fc": "called"}
    finding = about(trace, "bypassed")
    assert finding.path == ""
    assert finding.site is not None
    assert finding.site.text == "model.forward(X)"


# unused


def test_unused_modules_of_one_line_are_one_finding() -> None:
    """A list of unused modules says so once, with the line that made it."""

    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)
            self.spare = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    trace = tracecall.trace(Spare(), X)
    finding = about(trace, "unused")
    assert finding.site is not None
    assert finding.site.text == "self.spare = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))"
    assert states(trace)["spare.0"] == "unused"


def test_without_operations_nothing_is_called_unused() -> None:
    """Where operations were not recorded, nobody can know whose weights were read."""
    model = States()
    with tracecall.tracing(model, operations="none") as trace:
        model(X)
    assert states(trace)["unused"] == states(trace)["weights_used"] == "unseen"
    assert [finding.kind for finding in trace.findings] == ["raised-and-caught", "bypassed"]


def test_in_a_failed_run_nothing_is_said_to_be_unused() -> None:
    """What comes after the error never had its turn."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5))
    with pytest.raises(RuntimeError):
        tracecall.trace(model, X)
    trace = tracecall.last_trace()
    assert trace is not None
    assert trace.findings == []


class Skips(nn.Module):
    """Calls the forward of two modules directly: one that does nothing that could be seen, one through its class."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Identity()
        self.dropout = nn.Dropout()
        self.idle = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.shortcut.forward(x)
        return type(self.dropout).forward(self.dropout, y) + 1


def test_a_forward_that_runs_no_operation_is_bypassed_all_the_same() -> None:
    """Identity, and Dropout in eval, leave nothing but the Python call itself."""
    trace = tracecall.trace(Skips().eval(), X)
    assert states(trace) == {"": "called", "shortcut": "bypassed", "dropout": "bypassed", "idle": "unused"}
    assert [finding.site.text for finding in trace.findings if finding.kind == "bypassed" and finding.site] == [
        "self.shortcut.forward(x)",
        "type(self.dropout).forward(self.dropout, y)",
    ]


def test_where_such_a_call_cannot_be_seen_nothing_is_claimed() -> None:
    """Somebody else profiles this thread: a module without a call is unseen, not unused, and their profiler stays."""
    seen: list[str] = []
    profile = lambda frame, event, arg: seen.append(event)  # noqa: E731
    sys.setprofile(profile)
    try:
        trace = tracecall.trace(Skips().eval(), X)
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert {path: state for path, state in states(trace).items() if path} == {
        "shortcut": "unseen", "dropout": "unseen", "idle": "unseen",
    }  # fmt: skip
    assert [finding.kind for finding in trace.findings] == []
