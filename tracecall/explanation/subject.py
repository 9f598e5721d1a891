"""The model that a story is about, and what is known of it: each fact is observed once, when first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import BackwardHook

from tracecall.calls import Trace, Value
from tracecall.errors import TracecallError
from tracecall.explanation.restoring import Kept, Parameters
from tracecall.explanation.watching import Entered, Function, Watched, watch
from tracecall.recording import last_trace, predictions, tensor_specs, trace, values
from tracecall.recording.differences import same_output
from tracecall.recording.failures import describe
from tracecall.recording.modules import ForwardNames, Modules
from tracecall.recording.opaque import opaque
from tracecall.recording.preserved import preserved
from tracecall.recording.sites import forward_code


def checked(model: object) -> nn.Module:
    """An nn.Module, or one line that says what to give."""
    if not isinstance(model, nn.Module):
        hint = "; did you mean to make an instance first?" if isinstance(model, type) else ""
        raise TracecallError(f"explain needs an nn.Module, got {values.short(model)} ({type(model).__name__}){hint}")
    return model


def summary(error: Exception) -> str:
    """An exception's type and the first line of its message."""
    first = next(iter(describe(error, raised_here=True).message.splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class RunRaisedError(Exception):
    """A run of the model raised; `error` is what."""

    def __init__(self, error: Exception) -> None:
        super().__init__(summary(error))
        self.error = error


class Subject:
    """A model with its arguments; every run begins with the same tensors and random state, and these are put back."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.kind = type(model)
        self.name = self.kind.__name__
        self.names = ForwardNames(model.forward)
        self.opaque = opaque(model)  # why nothing inside can be seen, or None
        self.error: Exception | None = None
        self._inputs = Kept(leaf for one in (*args, *kwargs.values()) for _, leaf in values.parts("", one))
        self._parameters = Parameters(model)
        self.writes_inputs = False
        self.writes_parameters = False
        self.parameters_too_large = self._parameters.too_large
        try:
            with self._restored():
                self.output = model(*args, **kwargs)
                self.predictions = predictions(self.output)  # now: an output may be an input, which is put back
        except Exception as error:
            self.error = error.with_traceback(None)

    @contextmanager
    def _restored(self) -> Iterator[None]:
        with preserved(self.model):
            try:
                yield
            finally:
                self.writes_inputs |= self._inputs.put_back()
                self.writes_parameters |= self._parameters.put_back()

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Leave the model and the tensors that it is given as they were; what a run raises is a RunRaisedError."""
        try:
            with self._restored():
                yield
        except RunRaisedError:  # one run inside another
            raise
        except Exception as error:
            raise RunRaisedError(error.with_traceback(None)) from None

    def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns, run from the same state as every other."""
        with self.preserved():
            return call()

    def call(self) -> Any:
        """`model(x)`, from the same state as every other run."""
        return self.run(lambda: self.model(*self.args, **self.kwargs))

    def written(self, function: str) -> str:
        """The call as one would write it: "model(x)", "model.forward(ids, mask=mask)"."""
        given = [name if i < len(self.args) else "" for i, name in enumerate(self.names.names)]
        names = [name for name in given if name]
        names += ["…"] if len(self.args) > len(names) else []
        return f"{function}({', '.join([*names, *(f'{name}={name}' for name in self.kwargs)])})"

    def inputs(self) -> list[Value]:
        """The arguments under the parameter names of forward."""
        known = self.names.names
        named = [(known[i] if i < len(known) else f"args[{i}]", arg) for i, arg in enumerate(self.args)]
        leaves = [leaf for where, arg in [*named, *self.kwargs.items()] for leaf in values.parts(where, arg)]
        return [
            Value(where, tensor_specs.spec(leaf) if isinstance(leaf, torch.Tensor) else values.short(leaf))
            for where, leaf in leaves
        ]

    @property
    def forward(self) -> Any:
        """The forward that `__call__` runs: the class's, or an attribute of this object that shadows it."""
        return self.model.forward

    @property
    def forward_function(self) -> Function:
        """The function that runs when forward is called, a decorator's rather than the one under it."""
        function: Any = self.forward
        while isinstance(function, functools.partial):
            function = function.func
        owner = getattr(function, "__self__", None)
        called = type(self.model).__call__
        if not isinstance(function, (FunctionType, MethodType)):
            owner, function = function, getattr(type(function), "__call__", None)  # noqa: B004  # its code
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and code is getattr(called, "__code__", None):  # one decorator on both
            code = forward_code(getattr(self.forward, "__func__", self.forward))
        return Function(code, owner)

    @functools.cached_property
    def watched(self) -> Watched:
        """One run under the interpreter's eyes, with the user's own hooks only."""
        run = lambda: self.model(*self.args, **self.kwargs)  # noqa: E731
        with self.preserved():
            return watch(run, self.forward_function)

    @functools.cached_property
    def trace(self) -> Trace:
        """One recorded run."""
        before = last_trace()
        try:
            with self._restored():
                return trace(self.model, *self.args, **self.kwargs)
        except Exception as error:
            if last_trace() is before:  # nothing was recorded: it was not the model that raised
                raise
            raise RunRaisedError(error.with_traceback(None)) from None

    @functools.cached_property
    def paths(self) -> dict[int, str]:
        """The path of every module by its id."""
        return Modules(self.model).paths

    @property
    def reaches_module_call(self) -> bool:
        """Whether nn.Module's own `__call__` ran for the root."""
        return self.entered(nn.Module._wrapped_call_impl) or self.entered(nn.Module._call_impl)

    def entered(self, function: Any) -> bool:
        """Whether this method of nn.Module ran for the root; looked up now, since nn.Module can be patched."""
        return self.watched.of(function.__code__, self.model) is not None

    def entered_backward_hook(self, method: Literal["setup_input_hook", "setup_output_hook"]) -> bool:
        """Whether torch wrapped the root's arguments or output, as it does for full backward hooks."""
        code = getattr(BackwardHook, method).__code__
        return any(
            one.code is code and one.above is not None and self._is_the_roots_call(one.above)
            for one in self.watched.entered
        )

    def _is_the_roots_call(self, one: Entered) -> bool:
        """Whether this is a method of the root, or a function written inside one."""
        return next((e.module for e in (one, *one.around()) if e.module is not None), None) is self.model

    @functools.cached_property
    def repeats(self) -> bool:
        """Whether two equal runs give the same numbers; where they do not, a difference proves nothing."""
        return same_output(self.output, self.call())

    def path(self, module: nn.Module) -> str | None:
        """The path of a module, "" for the root; None for one that is no part of the model."""
        return self.paths.get(id(module))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors in what the model returned."""
        return [leaf for _, leaf in values.parts("", self.output) if isinstance(leaf, torch.Tensor)]
