"""The story of `model(x)` as plain data: steps, each a claim with what was observed and the code that it is about.

`tracecall.explain` makes one; `tracecall explain --json` prints it. Fields may be added, never renamed.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from tracecall.calls import CallError, ModelInfo, Value

Topic = Literal["call", "hooks", "submodules", "forward", "modes", "prediction"]
TOPICS: tuple[Topic, ...] = ("call", "hooks", "submodules", "forward", "modes", "prediction")  # in the story's order


class Source(Struct, omit_defaults=True):
    """Lines of code: the user's, or those of the installed torch. Lines count from 1."""

    file: str  # as it is shown: "models/cnn.py", "torch/nn/modules/module.py"
    line: int  # of the first line of `text`
    text: str  # whole lines, without their common indentation
    marked: list[int] = field(default_factory=list)  # the lines that the claim speaks of


class Evidence(Struct, omit_defaults=True):
    """One thing that was looked at while the model ran, and what was seen."""

    looked_at: str  # "model(x) is what forward returned"
    seen: bool | int | float | str | list[str]  # a list is shown one a line, indented as it stands


class Step(Struct, omit_defaults=True):
    """One idea: a claim in plain words that the evidence proves for this model."""

    topic: Topic
    title: str  # "model(x) calls type(model).__call__"
    claim: str  # one paragraph; `code` stands between backticks
    evidence: list[Evidence] = field(default_factory=list)
    source: list[Source] = field(default_factory=list)


class Story(Struct, omit_defaults=True):
    """What happens when you write `model(x)`, step by step, for one model and one input."""

    model: ModelInfo
    inputs: list[Value] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    error: CallError | None = None  # what the model's forward raised: the story ends before it
    notes: list[str] = field(default_factory=list)  # what the reader must know: "input inferred from fc1 (Linear)"

    def __str__(self) -> str:
        from tracecall.views.story import text  # only printing needs rich

        return text(self)
