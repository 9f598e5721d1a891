"""Shapes as assertions in tests: `assert_shapes` runs a model once and holds its modules' shapes against names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracecall.asserting.matching import Matching, match
from tracecall.asserting.patterns import Wanted, wanted
from tracecall.errors import TracecallError
from tracecall.recording import trace as record

if TYPE_CHECKING:
    from torch import nn

    from tracecall.calls import Trace

ALSO = 3  # further mismatches that a message names
EXAMPLE = 'assert_shapes(model, x, {"conv1": "B,16,H,W"})'


def assert_shapes(model: nn.Module, /, *args: Any, **kwargs: Any) -> None:
    """Run `model` once and assert the shapes of its modules: `assert_shapes(model, x, {"conv1": "B,16,H,W"})`.

    The last positional argument is the dictionary; everything before it, and every keyword argument, goes to the
    model, which runs in the mode that it is in and is left as it was. A key is the path of a module, "" for the model
    itself. A value is the shape of its output, or "B,3,H,W → B,16,H,W" for what goes in and comes out; several tensors
    are a tuple of shapes, "[B,S,E], [2,B,H]", or a dictionary by name. A size is a number, a name, `_` for any, `...`
    for any number of them, or a formula of names with + - * //. A name stands for one size in the whole dictionary, as
    in jaxtyping; a module that is called several times must match in every call.

    Raises AssertionError, with the names bound and the tree around the first mismatch; TracecallError for a
    dictionary that cannot be read or a path that is no module. The model's own exceptions pass through.
    """
    __tracebackhide__ = True
    expected = _expected(args)
    recorded = record(model, *args[:-1], **kwargs)
    for path in expected:
        _check_called(model, recorded, path)
    found = match(recorded, expected)
    if found.mismatches:
        raise AssertionError(_message(recorded, found))


def _expected(args: tuple[Any, ...]) -> dict[str, Wanted]:
    """The last argument, read before anything runs."""
    __tracebackhide__ = True
    shapes = args[-1] if args else None
    if not isinstance(shapes, Mapping):
        given = f"got {type(shapes).__name__}" if args else "got nothing after the model"
        raise TracecallError(f"the last positional argument is the dictionary of shapes, {given}; type {EXAMPLE}")
    if not shapes:
        raise TracecallError(f"the dictionary of shapes is empty, so nothing would be checked; type {EXAMPLE}")
    for path in shapes:
        if not isinstance(path, str):
            raise TracecallError(
                f"a key of the dictionary of shapes is the path of a module, got {type(path).__name__}; type {EXAMPLE}"
            )
    try:
        expected = {path: wanted(path, given) for path, given in shapes.items()}
    except TracecallError as error:
        raise TracecallError(str(error)) from None  # from here, which pytest leaves out: the reader's line is the last
    bindable = {size.name for one in expected.values() for size in one.sizes()}
    for path, one in expected.items():
        for size in one.sizes():
            for name in sorted(size.names() - bindable):
                raise TracecallError(
                    f"{size.text} of {path!r} needs {name}, which is bound nowhere; give a shape that has {name} "
                    f'alone, as "B,{name}"'
                )
    return expected


def _check_called(model: nn.Module, recorded: Trace, path: str) -> None:
    """Every path is a module that was called."""
    __tracebackhide__ = True
    if recorded.find(path):
        return
    try:
        module = model.get_submodule(path)  # by any of its names
    except AttributeError:
        module = None
    info = next((recorded.modules.get(first) for first, one in model.named_modules() if one is module), None)
    if info is None:
        near = difflib.get_close_matches(path, recorded.modules, n=1)
        called = [one.path for one in recorded.modules.values() if one.state == "called"]
        some = ", ".join(map(repr, called[:8])) + (f" and {len(called) - 8} more" if len(called) > 8 else "")
        hint = f"did you mean {near[0]!r}?" if near and near[0] else "type one of these"
        raise TracecallError(f"{recorded.model.name} has no module {path!r}; it called {some}; {hint}")
    why = {
        "bypassed": "its forward ran, but without __call__: call the module, not its forward",
        "weights-used": "an operation elsewhere used its weights",
        "unseen": "it is inside a call that cannot be looked into",
    }.get(
        info.state, "a module that only holds others has no shape" if info.container else "this input does not reach it"
    )
    raise AssertionError(
        f"{path} ({info.type}) was not called, so it has no shapes: {why}; take {path!r} out, or call it"
    )


def _message(recorded: Trace, found: Matching) -> str:
    """The first mismatch of the run, the names, the tree around it, and what else does not match."""
    from tracecall.views.excerpt import excerpt  # only a failure needs rich

    first, *others = found.mismatches
    said = [f"{first.about} is not as expected", f"  expected  {first.expected}", f"  seen      {first.seen}"]
    said.append(f"  because   {first.why}")
    origins: dict[str, list[str]] = {}
    for name, one in found.bound.items():
        origins.setdefault(one.origin, []).append(f"{name} = {one.size}")
    for i, (origin, names) in enumerate(origins.items()):
        said.append(f"  {'names' if i == 0 else '':<8}  {', '.join(names)}, from {origin}")
    for i, other in enumerate(others[:ALSO]):
        said.append(f"  {'also' if i == 0 else '':<8}  {other.about}: expected {other.expected}, seen {other.seen}")
    if len(others) > ALSO:
        said.append(f"            and {len(others) - ALSO} more")
    return "\n".join([*said, "", *excerpt(recorded, first.call)])
