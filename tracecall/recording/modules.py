"""The modules of a model: their paths, aliases, parameters and where each forward is written."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from types import CodeType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tracecall.calls import ModelInfo, ModuleInfo
from tracecall.recording.sites import class_line, forward_code, forward_site, home_of, shown_path


class Modules:
    """Every module under a root, found by identity; modules that a forward builds are added as they are called."""

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.paths: dict[int, str] = {}
        self.aliases: dict[int, list[str]] = {}
        self.by_path: dict[str, nn.Module] = {}
        self._built_inside: dict[str, tuple[ModuleInfo, weakref.ref[nn.Module]]] = {}
        self._walk(root)
        # owners of each parameter and buffer: (path, name); several where modules share it
        self.owners: dict[int, list[tuple[str, str]]] = {}
        self.tensor_labels: dict[int, str] = {}
        for path, module in self.by_path.items():
            for kind, tensors in (("parameter", module._parameters), ("buffer", module._buffers)):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        self.owners.setdefault(id(tensor), []).append((path, name))
                        self.tensor_labels.setdefault(id(tensor), f"{kind} {path + '.' if path else ''}{name}")
        self.owner_paths = {key: {path for path, _ in owners} for key, owners in self.owners.items()}
        self.forward_codes: dict[int, CodeType] = {}  # by id: hashing code is slow
        for module in self.by_path.values():
            code = forward_code(getattr(type(module), "forward", None))
            if code is not None:
                self.forward_codes[id(code)] = code

    def _walk(self, root: nn.Module) -> None:
        """Paths in registration order; a module seen again gets an alias, which also ends cycles."""
        waiting = [("", root)]
        while waiting:
            path, module = waiting.pop()
            if id(module) in self.paths:
                self.aliases.setdefault(id(module), []).append(path)
                continue
            self.paths[id(module)] = path
            self.by_path[path] = module
            prefix = path + "." if path else ""
            waiting.extend((prefix + name, sub) for name, sub in reversed(module._modules.items()) if sub is not None)

    def add(self, module: nn.Module, parent: str, gone: Callable[[int], object]) -> str:
        """A path for a module that is not in the model: built inside a forward, "block.<Linear>".

        It is not kept alive; `gone` is told its id, which may then be another module's.
        """
        prefix = parent + "." if parent else ""
        path = f"{prefix}<{type(module).__name__}>"
        number = 1
        while path in self._built_inside:
            number += 1
            path = f"{prefix}<{type(module).__name__} {number}>"
        key = id(module)

        def forget(_: object) -> None:
            self.paths.pop(key, None)
            gone(key)

        self.paths[key] = path
        self._built_inside[path] = (self._info(path, module, set()), weakref.ref(module, forget))
        self._built_inside[path][0].built_inside = True
        return path

    def outside(self) -> list[nn.Module]:
        """The modules that are no part of the model, were called, and are still there."""
        return [module for _, reference in self._built_inside.values() if (module := reference()) is not None]

    def infos(self) -> dict[str, ModuleInfo]:
        """One ModuleInfo a module; read after the run, when lazy modules have their parameters."""
        counted: set[int] = set()
        found = {path: self._info(path, module, counted) for path, module in self.by_path.items()}
        return {**found, **{path: info for path, (info, _) in self._built_inside.items()}}

    def _info(self, path: str, module: nn.Module, counted: set[int]) -> ModuleInfo:
        info = ModuleInfo(
            path=path,
            type=type(module).__name__,
            aliases=self.aliases.get(id(module), []),
            extra_repr=_extra_repr(module),
            source=forward_site(module),
            training=module.training,
        )
        for tensor in module._parameters.values():
            if tensor is not None and id(tensor) not in counted and not is_lazy(tensor):
                counted.add(id(tensor))
                info.parameters += tensor.numel()
                info.parameter_bytes += tensor.numel() * tensor.element_size()
                info.trainable += tensor.numel() if tensor.requires_grad else 0
        for buffer in module._buffers.values():
            if buffer is not None and id(buffer) not in counted and not is_lazy(buffer):
                counted.add(id(buffer))
                info.buffers += buffer.numel()
        return info

    def model_info(self, infos: dict[str, ModuleInfo], training: bool) -> ModelInfo:
        """The root's name and the parameters of the whole model, shared ones counted once."""
        own = [info for info in infos.values() if not info.built_inside]
        return ModelInfo(
            name=type(self.root).__name__,
            origin=None if infos[""].source is None else _class_origin(self.root),
            parameters=sum(info.parameters for info in own),
            trainable=sum(info.trainable for info in own),
            training=training,
        )

    def devices(self) -> list[str]:
        """The devices that hold the model's parameters and buffers, or the CPU where it has none."""
        found: dict[str, None] = {}
        for module in self.by_path.values():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if isinstance(tensor, torch.Tensor):
                    found[str(tensor.device)] = None
        return list(found) or ["cpu"]


def _class_origin(module: nn.Module) -> str | None:
    """File and line of the module's class."""
    found = class_line(type(module))
    return None if found is None else f"{shown_path(found[0])}:{found[1]}"


def _extra_repr(module: nn.Module) -> str:
    try:
        return str(module.extra_repr())
    except Exception:  # a model's own method, called before or outside of what it expects
        return ""


class ForwardNames:
    """How arguments of one forward are called."""

    __slots__ = ("full", "home", "homes", "internal", "keywords", "names", "starred", "starred_keywords")

    def __init__(self, forward: object, bound: bool = False, kind: type | None = None) -> None:
        self.names: tuple[str, ...] = ()
        self.starred: str | None = "args"
        self.starred_keywords: str | None = None
        self.keywords: frozenset[str] = frozenset()  # that may be given by name
        self.full = -1  # how many positional arguments leave no room for keyword arguments, if any number does
        self.home = home_of(forward)
        self.internal = self.home == "torch"
        # packages whose code is the module's own: of the forward, and of the classes that it inherits from
        written = {cls.__module__.partition(".")[0] for cls in (kind.__mro__ if kind is not None else ())}
        self.homes = frozenset() if self.home == "torch" else frozenset({self.home, *written} - {"torch", "builtins"})
        try:
            parameters = list(inspect.signature(forward).parameters.values())  # type: ignore[arg-type]
        except (TypeError, ValueError):  # built in, or a ScriptMethod
            return
        if bound and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            del parameters[0]  # self
        self.names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        self.starred = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.starred_keywords = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self.keywords = frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))
        if self.starred_keywords is None and not any(p.kind is p.KEYWORD_ONLY for p in parameters):
            self.full = len(self.names)
