"""What happens when you write `model(x)`: a story told from what was observed on this model, never from what is usual.

Each part of the story is a file: `call`, `hooks`, `submodules`, `forward`, `modes`, `prediction`. They run the model
through a Subject (subject.py), which puts back what a run changes (restoring.py), let the interpreter write down what
it does (watching.py) and quote code (code.py). For `hooks`, probes.py attaches four and user_hooks.py tells of yours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from tracecall.calls import ModelInfo
from tracecall.explanation import call, forward, hooks, modes, prediction, submodules
from tracecall.explanation.subject import RunRaisedError, Subject, checked
from tracecall.recording.failures import describe
from tracecall.recording.modules import Modules
from tracecall.story import TOPICS, Step, Story, Topic

_PARTS: dict[Topic, Callable[[Subject], Iterator[Step]]] = {
    "call": call.steps,
    "hooks": hooks.steps,
    "submodules": submodules.steps,
    "forward": forward.steps,
    "modes": modes.steps,
    "prediction": prediction.steps,
}


def explain(model: nn.Module, /, *args: Any, **kwargs: Any) -> Story:
    """Tell what `model(*args, **kwargs)` does and why: steps with claim, evidence and source.

    The model is run a dozen times, each time from the same random state. After each run its parameters (up to 1 GiB of
    them), buffers, gradients, train or eval mode and the tensors passed are put back. Plain Python attributes (a
    counter, a list used as a cache) are not, and neither is an iterator that was passed: what the runs left stays.
    If forward raises, in the first run or in a later one, the story ends there, with the exception in `Story.error`.
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
    try:
        for topic in TOPICS:
            if topic in topics:
                story.steps.extend(_PARTS[topic](subject))  # a step is kept as soon as it is told
        repeats = subject.repeats
    except RunRaisedError as raised:
        story.error = describe(raised.error, raised_here=True)
        story.notes.append("the model ran the first time, but a later run raised an exception: the story ends there")
        repeats = vars(subject).get("repeats", True)  # known only where two runs were compared before
    story.notes.extend(_notes(subject, repeats))
    return story


def _notes(subject: Subject, repeats: bool) -> list[str]:
    notes = []
    if subject.writes_inputs:
        notes.append("the model changes its input in place; the input was put back after each run")
    if subject.writes_parameters:
        notes.append("the model changes its parameters; they were put back after each run")
    if subject.parameters_too_large:
        notes.append(
            "the parameters take more than 1 GiB and were not copied: if the model writes into them, that stays"
        )
    if not repeats:
        notes.append(
            "two runs of the model, from the same random state, gave different numbers: the model or its input keeps "
            "something from one run to the next, or an operation is not deterministic"
        )
    return notes


__all__ = ["explain", "tell"]
