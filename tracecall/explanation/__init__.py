"""What happens when you write `model(x)`: a story told from what was observed on this model, never from what is usual.

Each part of the story is a file: `call`, `hooks`, `submodules`, `forward`, `modes`, `prediction`. They run the model
through a Subject (subject.py), let the interpreter write down what it does (watching.py) and quote code (code.py).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tracecall.calls import ModelInfo
from tracecall.explanation import call, forward, hooks, modes, prediction, submodules
from tracecall.explanation.subject import Subject, checked
from tracecall.recording.failures import describe
from tracecall.recording.modules import Modules
from tracecall.story import TOPICS, Step, Story, Topic

_PARTS = {
    "call": call.steps,
    "hooks": hooks.steps,
    "submodules": submodules.steps,
    "forward": forward.steps,
    "modes": modes.steps,
    "prediction": prediction.steps,
}


def explain(model: nn.Module, /, *args: Any, **kwargs: Any) -> Story:
    """Tell what `model(*args, **kwargs)` does and why: steps with claim, evidence and source.

    The model is run a dozen times, each time from the same random state, and left as it was. If its forward raises, the
    story ends there, with the exception in `Story.error`.
    """
    return tell(model, args, kwargs)


def tell(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    topics: tuple[Topic, ...] = TOPICS,
) -> Story:
    """The same with arguments as data, and for some of the topics only."""
    subject = Subject(checked(model), args, kwargs or {})
    modules = Modules(model)
    info = modules.model_info(modules.infos(), model.training)
    story = Story(ModelInfo(info.name, info.origin, info.parameters, info.trainable, info.training))
    story.inputs = subject.inputs()
    if subject.error is not None:
        story.error = describe(subject.error, raised_here=True)
        return story
    if subject.writes_inputs:
        story.notes.append("the model changes its input in place; the input was put back after each run")
    for topic in TOPICS:
        if topic in topics:
            steps: list[Step] = _PARTS[topic](subject)
            story.steps.extend(steps)
    return story


__all__ = ["explain", "tell"]
