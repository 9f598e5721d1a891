"""Part 3: inside forward, each submodule call is a `__call__` again: the chain of functions, down to the operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from tracecall.calls import Call
from tracecall.explanation.code import line_of
from tracecall.explanation.subject import Subject
from tracecall.explanation.watching import Entered
from tracecall.recording.sites import site
from tracecall.story import Evidence, Source, Step

MOST_LINES = 16  # of a chain, and of a list of calls


def steps(subject: Subject) -> Iterator[Step]:
    """One chain that was made, then what else forward called."""
    called = None if subject.opaque is not None else _first_call(subject)
    made = [call for call in made_by_forward(subject) if call.kind == "module"]
    if called is not None:
        yield _again(subject, called)
    elif made and subject.opaque is None and subject.watched.forward is not None:
        yield _chain_not_seen(made)
    else:
        yield _none_called(subject)
        return
    yield _all_calls(subject)


def _first_call(subject: Subject) -> Entered | None:
    """The first submodule call made by the root's forward, or on the way of a function that forward calls."""
    forward = subject.watched.forward
    waiting = list(reversed(forward.inside)) if forward is not None else []
    entrance: Any = nn.Module._wrapped_call_impl  # looked up now: nn.Module can be patched
    while waiting:
        one = waiting.pop()
        if one.code is entrance.__code__ and one.module is not None:
            return one
        waiting.extend(reversed(one.inside))
    return None


def _chain_not_seen(made: list[Call]) -> Step:
    """Submodules were called, but not where the interpreter was watched: in another thread, say."""
    elsewhere = [call for call in made if call.thread is not None]
    where = "in another thread" if len(elsewhere) == len(made) else "where it could not be watched"
    ran = "It ran" if len(made) == 1 else "They ran"
    claim = (
        f"`forward` made {_many(len(made), 'submodule call')}. {ran} {where}, so the chain of functions from "
        "`__call__` down to an operation was not seen."
    )
    lines = [f"{call.name}   {call.thread or 'the same thread'}" for call in made[:MOST_LINES]]
    evidence = [Evidence("submodule calls, and the threads that they ran in", lines)]
    source = line_of(made[0].site)
    return Step("submodules", "Submodules are called out of sight", claim, evidence, source)


def _none_called(subject: Subject) -> Step:
    inside = len(subject.paths) - 1
    claim = f"`{subject.name}.forward` called no submodule" + (
        f", though it has {inside}: see `tracecall run` for what became of each." if inside else ": it has none."
    )
    evidence = [Evidence("submodules", inside)]
    title = "No submodule is called"
    if subject.watched.forward is not None:
        evidence.append(Evidence("submodule calls seen in forward", 0))
    else:
        title = "What forward calls was not seen"
        claim = f"`{subject.name}.forward` was not seen to run, so nothing is known of what it calls."
        others = [call.path for _, call in subject.trace.walk() if call.kind == "module" and call.path]
        if others:
            claim += f" {_many(len(others), 'submodule call')} ran in this run, from other code."
            evidence.append(Evidence("submodules called", others[:MOST_LINES]))
    if subject.opaque is not None:
        title = "What forward calls was not seen"
        evidence = evidence[:1]
        claim = f"Python sees no call inside: this module is {subject.opaque}."
    operations = [call.name for call in made_by_forward(subject) if call.kind == "operation"]
    if operations and subject.watched.forward is not None:
        evidence.append(Evidence("operations in forward", operations[:MOST_LINES]))
    return Step("submodules", title, claim, evidence)


def made_by_forward(subject: Subject) -> list[Call]:
    """The calls that the root's forward made; where the root has no call of its own, its submodules' are outermost."""
    calls = subject.trace.calls
    if len(calls) == 1 and calls[0].kind == "module" and calls[0].path == "":
        return calls[0].children
    return calls


def _again(subject: Subject, called: Entered) -> Step:
    module = called.module
    assert module is not None
    expression = called.expression() or f"{type(module).__name__}(…)"
    chain, operation = _chain(called)
    claim = (
        f"Inside `forward`, `{expression}` is the same again, one level down: {_which(subject, module)}, so Python "
        "runs `__call__` on it, which looks for its hooks and runs its own `forward`."
    )
    if operation is not None and operation.file is None:
        claim += f" The chain ends in `{operation.name}`, an operation: a function that computes, without hooks."
    elif operation is not None:
        claim += (
            f" The chain ends in `{operation.name}`: there the operation `{operation.operation}` ran, without hooks."
        )
    evidence = [Evidence("the functions entered, each inside the one above", chain)]
    return Step("submodules", "Inside forward it is the same again", claim, evidence, _line(called))


def _which(subject: Subject, module: nn.Module) -> str:
    path, kind = subject.path(module), type(module).__name__
    if path is None:
        return f"it calls a module ({kind}) that is no part of the model"
    return f"`{path}` is a module ({kind})" if path else "it calls the model itself, which is a module too"


def _line(called: Entered) -> list[Source]:
    return [] if called.called is None else line_of(site(called.called))


def _chain(called: Entered) -> tuple[list[str], Entered | None]:
    """From the root's `__call__` to the first operation inside this call, each line deeper than the one above."""
    operation = _first_operation(called)
    way: list[Entered] = [operation] if operation is not None else [called]
    way += way[0].around()
    way.reverse()
    if len(way) > MOST_LINES:
        way = [*way[: MOST_LINES // 2], *way[-(MOST_LINES // 2) :]]
    width = max(2 * depth + len(one.name) for depth, one in enumerate(way)) + 3
    return [f"{'  ' * depth + one.name:<{width}}{one.where()}" for depth, one in enumerate(way)], operation


def _first_operation(called: Entered) -> Entered | None:
    found = None
    waiting = [called]
    while waiting:
        one = waiting.pop()
        if one.operation is not None and (found is None or one.turn < found.turn):
            found = one
        waiting.extend(one.inside)
    return found


def _all_calls(subject: Subject) -> Step:
    children = made_by_forward(subject)
    modules = [call for call in children if call.kind == "module"]
    operations = [call for call in children if call.kind == "operation"]
    deeper = _modules_inside(modules)
    claim = (
        f"`forward` made {_many(len(modules), 'submodule call')} and {_many(len(operations), 'operation')} of its own"
    )
    claim += f"; inside those submodules {_many(deeper, 'more module call')} followed." if deeper else "."
    claim += " A submodule call has hooks and a `forward` of its own; an operation has neither."
    listed = [
        f"{call.name}   {f'{call.type}.__call__' if call.kind == 'module' else 'operation'}"
        for call in children
        if call.kind != "hook"
    ]
    names = max((len(line.partition("   ")[0]) for line in listed), default=0)
    aligned = [f"{name:<{names}}   {what}" for name, _, what in (line.partition("   ") for line in listed)]
    if len(aligned) > MOST_LINES:
        aligned = [*aligned[: MOST_LINES - 1], f"and {len(aligned) - MOST_LINES + 1} more"]
    evidence = [Evidence("in the order in which forward made them", aligned)]
    unused = [
        path for path, info in subject.trace.modules.items() if info.state in ("bypassed", "weights-used") and path
    ]
    if unused:
        claim += (
            f" {_many(len(unused), 'module')} did work without being called: an operation read the weights, or "
            "`forward` was called directly. No hook ran for those."
        )
        evidence.append(Evidence("worked without a call", unused[:MOST_LINES]))
    return Step("submodules", "Submodule calls and operations", claim, evidence)


def _modules_inside(calls: list[Call]) -> int:
    found, waiting = 0, [inner for call in calls for inner in call.children]
    while waiting:
        call = waiting.pop()
        found += call.kind == "module"
        waiting.extend(call.children)
    return found


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
