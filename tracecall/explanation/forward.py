"""Parts 4 and 5: what forward returned is what `model(x)` returned; and what `model.forward(x)` leaves out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.explanation.code import signature, statements
from tracecall.explanation.subject import RunRaisedError, Subject, summary
from tracecall.explanation.user_hooks import changes, hooks_that_replaced, hooks_that_wrote, names
from tracecall.recording.differences import same_output
from tracecall.story import Evidence, Step

_LEAVES_OUT = "model.forward(x) leaves out what __call__ adds"


def steps(subject: Subject) -> Iterator[Step]:
    """What comes out, and what is left out where forward is called directly."""
    if subject.watched.forward is None or subject.opaque is not None:
        yield _unseen(subject)
        return
    yield _returned(subject)
    yield _direct(subject)


def _unseen(subject: Subject) -> Step:
    why = f"this module is {subject.opaque}" if subject.opaque else "Python did not see it begin"
    return Step("forward", "What forward returned was not seen", f"The run of `forward` could not be watched: {why}.")


def _returned(subject: Subject) -> Step:
    watched, called = subject.watched, subject.written("model")
    same = watched.output is watched.forward_returned
    evidence = [Evidence(f"{called} is what forward returned, the same object", same)]
    replacing = hooks_that_replaced(subject, "forward hook", "output")
    writing = hooks_that_wrote(subject, "forward hook", "output")
    if same:
        title = "What forward returned is what you get"
        claim = f"`forward` returned an object, and `{called}` returned that very object: nothing took its place."
        if writing:
            claim += f" But the forward hook {names(writing)} wrote into it before you got it."
            evidence += changes(writing)
    elif replacing:
        title = "A forward hook replaced what forward returned"
        claim = (
            f"`{called}` did not return what `forward` returned: the forward hook {names(replacing)} put something "
            "else in its place."
        )
        evidence += changes(replacing)
    else:
        title = "What forward returned is not what you get"
        claim = f"`{called}` returned another object than `forward` did"
        if subject.entered_backward_hook("setup_output_hook"):
            claim += ": a full backward hook is registered, and for it torch wrapped the tensors in new ones."
        else:
            claim += ": something on the way out put it in the place of the first."
    returns = statements(subject.forward, lambda one: isinstance(one, ast.Return))
    return Step("forward", title, claim, evidence, returns[-1:])


def _direct(subject: Subject) -> Step:
    model, name = subject.model, subject.name
    call, direct = subject.written("model"), subject.written("model.forward")
    through, inside, output = _counted(subject, lambda: model(*subject.args, **subject.kwargs))
    try:
        alone, alone_inside, bare = _counted(subject, lambda: model.forward(*subject.args, **subject.kwargs))
    except RunRaisedError as raised:
        subject.call()  # if the model itself cannot run any more, the story ends, and this proves nothing
        error = raised.error
        claim = (
            f"`{call}` works, but called directly `{direct}` raised {type(error).__name__}: `__call__` does more here."
        )
        evidence = [Evidence(direct, summary(error))]
        return Step("forward", _LEAVES_OUT, claim, evidence, signature(subject.forward))
    same = same_output(output, bare)
    evidence = []
    claim = f"You can call `{direct}` yourself. "
    compared = bool(subject.tensors) and subject.repeats
    if compared:
        claim += "The numbers are the same" if same else "The numbers are not the same"
        claim += ", but " if same and through > alone else ", and "
        evidence.append(Evidence(f"{call} and {direct} give the same numbers", same))
    less = "the hooks of `{}` did not run: `forward` is only the part of `__call__` between the hooks. "
    ending = less if through > alone else "no hook of `{}` ran either way. "
    claim += (ending if compared else ending[0].upper() + ending[1:]).format(name)
    if inside and inside == alone_inside:
        claim += "The hooks of submodules still ran, since `forward` calls those modules with `__call__`. "
    if through > alone:
        claim += f"So write `{call}`. Inside your own modules, write `self.conv(x)` and not `self.conv.forward(x)`."
    evidence += [
        Evidence("a hook for the root ran", [f"{call}: {_times(through)}", f"{direct}: {_times(alone)}"]),
        Evidence("a hook for submodules ran", [f"{call}: {_times(inside)}", f"{direct}: {_times(alone_inside)}"]),
    ]
    title = _LEAVES_OUT if through > alone else "model.forward(x) leaves out nothing here"
    return Step("forward", title, claim.strip(), evidence, signature(subject.forward))


def _times(count: int) -> str:
    return "once" if count == 1 else "never" if count == 0 else f"{count} times"


def _counted(subject: Subject, run: Any) -> tuple[int, int, Any]:
    """How often a forward pre-hook for every module ran for the root, how often for others, and the output.

    A hook for every module, since one on a submodule may change what runs (nn.TransformerEncoderLayer's fused path).
    """
    counts = {True: 0, False: 0}

    def probe(module: nn.Module, args: Any) -> None:
        counts[module is subject.model] += 1

    with torch_module.register_module_forward_pre_hook(probe), subject.preserved():
        output = run()
    return counts[True], counts[False], output
