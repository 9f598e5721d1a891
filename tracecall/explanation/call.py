"""Part 1: what `model(x)` calls, and how that leads to `forward`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from tracecall.explanation.code import assignment, class_head, place, quoted
from tracecall.explanation.subject import Subject
from tracecall.explanation.user_hooks import changes, hooks_that_replaced, hooks_that_wrote, names
from tracecall.recording.differences import same_output
from tracecall.story import Evidence, Step


def steps(subject: Subject) -> Iterator[Step]:
    """Python's own step, and the one that nn.Module takes from there."""
    yield _python(subject)
    yield _forward(subject)


def _python(subject: Subject) -> Step:
    model, kind, name = subject.model, subject.kind, subject.name
    call: Any = kind.__call__
    owner = next(cls for cls in kind.__mro__ if "__call__" in vars(cls))
    function = getattr(call, "__qualname__", type(call).__qualname__)
    written = subject.written("model")
    bound = hasattr(vars(owner)["__call__"], "__get__")  # an object without it does not get the model
    claim = f"When you write `{written}`, Python looks for `__call__` on the class of `model` and runs " + (
        "`type(model).__call__(model, …)`. " if bound else "what it finds there. "
    )
    if owner is nn.Module:
        claim += (
            f"`{name}` does not define `__call__`: it inherits the one of `nn.Module`, which in this torch is the "
            f"function `{function}`."
        )
    elif owner is kind:
        claim += f"`{name}` defines a `__call__` of its own, so that is what runs, and not the one of `nn.Module`."
    else:
        claim += (
            f"`{name}` inherits the one that its base class `{owner.__name__}` defines, so that is what runs, and not "
            "the one of `nn.Module`."
        )
    evidence = [
        Evidence("type(model).__call__ is nn.Module.__call__", call is nn.Module.__call__),
        Evidence(f"type(model).__call__ is {function}", place(call)),
    ]
    if bound and subject.repeats:
        spelled = subject.run(lambda: call(model, *subject.args, **subject.kwargs))
        same = same_output(subject.output, spelled)
        evidence.append(Evidence(f"{written} and type(model).__call__(model, …) give the same", same))
    sources = [*class_head(kind), *(assignment(nn.Module, "__call__") if owner is nn.Module else quoted(call, most=10))]
    if "__call__" in vars(model):
        claim += " The attribute `__call__` on this object changes nothing: Python asks the class."
        evidence.append(Evidence('"__call__" in vars(model)', True))
    return Step("call", f"{written} calls __call__", claim, evidence, sources)


def _forward(subject: Subject) -> Step:
    name, watched = subject.name, subject.watched
    title = "__call__ runs forward"
    shadowed = "forward" in vars(subject.model)
    around = [] if watched.forward is None else list(watched.forward.around())
    evidence = [
        Evidence("forward ran inside __call__", watched.forward is not None),
        Evidence("on the way from __call__ to forward", [one.name for one in reversed(around)] or "not seen"),
    ]
    if subject.opaque is not None:
        title = "forward is compiled"
        claim = (
            f"This module is {subject.opaque}: `__call__` hands its arguments to compiled code, and Python sees "
            "nothing of what goes on inside."
        )
        return Step("call", title, claim, evidence)
    if watched.forward is None:
        title = "forward did not run"
        claim = f"This `__call__` did not run `{name}.forward`."
        if inspect.isgeneratorfunction(subject.forward):
            title = "forward is a generator"
            claim = "`forward` contains `yield`: calling it only makes a generator. Its code has not run yet."
        elif subject.forward_function.code is None:
            title = "forward is not Python code"
            claim = "`self.forward` is not a Python function here, so its run cannot be watched."
        return Step("call", title, claim, evidence, quoted(subject.forward))
    unchanged = _arrived(subject)
    written = hooks_that_wrote(subject, "forward pre-hook", "args", "kwargs")
    if not subject.reaches_module_call:
        claim = (
            "This `__call__` ran `forward` by itself and never came to the `__call__` of `nn.Module`. So nothing that "
            "`nn.Module` adds happens for this module: no hook runs."
        )
    elif around and around[-1].name != nn.Module._wrapped_call_impl.__qualname__:
        claim = (
            "This `__call__` goes on to the one of `nn.Module`, and that one runs `forward`: what `nn.Module` adds "
            "still happens."
        )
    else:
        claim = "That is why writing `forward` is enough: `__call__` comes with `nn.Module` and runs `self.forward`" + (
            " with the same arguments." if unchanged and not written else "."
        )
    if not unchanged:
        claim += " " + _not_arrived(subject)
    if unchanged and written:
        claim += (
            f" It got the objects that you passed, but before that the forward pre-hook {names(written)} had written "
            "into them."
        )
    evidence.append(Evidence("forward got the very arguments that you passed", unchanged))
    evidence += changes(written)
    if shadowed:
        claim += (
            " Here `self.forward` is an attribute of this object. It takes the place of the `forward` of the class "
            f"`{name}`, so it is what runs."
        )
        evidence.append(Evidence("self.forward is the class's forward", False))
        evidence.append(Evidence("self.forward is", place(subject.forward)))
    return Step("call", title, claim, evidence, quoted(subject.forward, most=16))


def _not_arrived(subject: Subject) -> str:
    """What is known of why forward got other objects than those that were passed."""
    replacing = hooks_that_replaced(subject, "forward pre-hook", "args", "kwargs")
    claim = "The arguments that `forward` got are not the objects that you passed"
    if replacing:
        return f"{claim}: the forward pre-hook {names(replacing)} put others in their place."
    if subject.entered_backward_hook("setup_input_hook"):
        return f"{claim}: a full backward hook is registered, and for it torch wrapped the tensors in new ones."
    return claim + "."


def _arrived(subject: Subject) -> bool:
    """Whether every argument came to forward as the object that was passed."""
    given = {id(one) for one in subject.watched.given}
    return all(id(one) in given for one in (*subject.args, *subject.kwargs.values()))
