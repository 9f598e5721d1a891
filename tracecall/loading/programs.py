"""MODEL as a saved program: torch.export's `.pt2`, with its modules back in their places, and TorchScript files.

A program is code: what runs is what its file says. Reading one runs no pickle beyond what torch takes for weights.
"""

from __future__ import annotations

import ast
import linecache
import logging
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_unflatten

from tracecall.errors import TracecallError
from tracecall.loading.archives import content_of
from tracecall.loading.devices import dtype_name
from tracecall.loading.inputs import Inputs
from tracecall.loading.places import shown
from tracecall.loading.specs import InputSpec

_ATEN = re.compile(r"\btorch\.ops\.aten\.")
_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
EXPORT_NOTE = "a program of torch.export: its mode, its branches and the sizes that it fixed are those of its export"
SCRIPT_NOTE = "TorchScript: run as one call; what happens inside is not seen, but its modules' parameters are counted"


def open_program(
    file: Path,
    device: torch.device,
    inputs: Sequence[InputSpec] = (),
    *,
    seed: int = 0,
    unmade: bool = False,
    given: bool = False,
) -> tuple[nn.Module, ModuleType, tuple[str, ...]]:
    """Return the program as a module, a Python module that stands for the file with its `example_input`, and notes.

    `inputs` are those that were typed; `unmade` says that it is for fake tensors, which TorchScript does not take, and
    of which an exported program takes no other sizes. Raises TracecallError for these, and where TorchScript, which
    keeps no example, has no input: none was typed, nor `given` in another way.
    """
    content = content_of(file)
    stands_for = ModuleType(file.stem)
    stands_for.__file__ = str(file)
    names = next((size for one in inputs for size in one.shape if isinstance(size, str)), None)
    if unmade and (content == "script" or names is not None):
        what = (
            "is TorchScript, which runs" if content == "script" else "is a program of torch.export, which was made for"
        )
        how = (
            "on real tensors alone"
            if content == "script"
            else f"fixed sizes or those in its ranges, not for any {names}"
        )
        raise TracecallError(
            f"MODEL {shown(file)} {what} {how}; type tracecall run {shown(file)}, or the model that it was made from"
        )
    if content == "script":
        return _open_script(file, device, ready=given or bool(inputs)), stands_for, (SCRIPT_NOTE,)
    model, example = _open_export(file, device, seed)
    stands_for.__dict__["example_input"] = example
    return model, stands_for, (EXPORT_NOTE,)


def _open_script(file: Path, device: torch.device, *, ready: bool) -> nn.Module:
    with _read(file, "TorchScript"):
        model: nn.Module = torch.jit.load(str(file), map_location=device)
        for module in list(model.modules()):  # under the name of the class that it was made from
            kind = type(module)
            named = type(str(getattr(module, "original_name", kind.__name__)), (kind,), {"__module__": kind.__module__})
            object.__setattr__(module, "__class__", named)  # a ScriptModule's own asks its compiled part
    if not ready and (needed := _parameters(model)):
        listed = ", ".join(f"{name}: {kind}" for name, kind in needed)
        shapes = " ".join(["--input 1,3,28,28"] * len(needed))
        raise TracecallError(
            f"MODEL {shown(file)} is TorchScript, which keeps no example input; its forward takes {listed}; type"
            f" {shapes} with your sizes, :int64 after them for ids"
        )
    return model


def _parameters(model: nn.Module) -> list[tuple[str, str]]:
    """Name and type of what a scripted forward must be given."""
    schema = getattr(getattr(model, "forward", None), "schema", None)
    arguments = [] if schema is None else [one for one in schema.arguments if one.name != "self"]
    return [(one.name, str(one.type)) for one in arguments if not one.has_default_value()]


def _open_export(file: Path, device: torch.device, seed: int) -> tuple[nn.Module, Inputs]:
    from torch.export.passes import move_to_device_pass

    with _read(file, "torch.export"), _no_free_pickle():
        program = torch.export.load(file)
        used = {one.device for one in program.state_dict.values() if isinstance(one, torch.Tensor)}
        if used - {device} and device.type != "meta":  # devices are written in its operations too
            program = move_to_device_pass(program, device)
        model = torch.export.unflatten(program)
        _as_generated(model, file)
    given = program.example_inputs
    if given is not None:
        return model, Inputs(tuple(given[0]), dict(given[1]), ("input: the program's own example",))
    args, kwargs = _from_signature(program, torch.Generator().manual_seed(seed))
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    sizes = ", ".join(f"{dtype_name(one.dtype)}{list(one.shape)}" for one in tensors)
    return model, Inputs(args, kwargs, (f"input made from the program's signature: {sizes}",))


def _from_signature(program: Any, generator: torch.Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs of the shapes in the program's signature; sizes that it left open are 2 or the least that it takes."""
    wanted = set(program.graph_signature.user_inputs)
    leaves = []
    for one in program.graph.nodes:
        if one.op == "placeholder" and one.name in wanted:
            leaves.append(_made(one.meta.get("val"), program.range_constraints, generator))
    args, kwargs = tree_unflatten(leaves, program.call_spec.in_spec)
    return tuple(args), dict(kwargs)


def _made(value: Any, ranges: dict[Any, Any], generator: torch.Generator) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    sizes = [_size(size, ranges) for size in value.shape]
    if value.dtype.is_floating_point or value.dtype.is_complex:
        return torch.randn(sizes, generator=generator).to(value.dtype)
    return torch.randint(2, sizes, generator=generator).to(value.dtype)


def _size(size: Any, ranges: dict[Any, Any]) -> int:
    if isinstance(size, int):
        return size
    least = ranges.get(size.node.expr)
    return max(2, int(least.lower)) if least is not None else 2


def _as_generated(model: nn.Module, file: Path) -> None:
    """Let every module run its generated code, under the name of the class that it was exported from.

    Interpreted, all operations of a forward would be made by one line of torch's. The code has a line for each; the
    forwards of all modules stand below each other in one text, which goes by the name of the file.
    """
    name, lines = f"<{file.name}>", [""]
    for path, module in model.named_modules():
        generated = getattr(module, "graph_module", None)
        if generated is None:
            continue
        module._run_with_interpreter = False
        kind = type(module)
        written = str(module.type_name() or kind.__name__)
        for one in module.graph.nodes:
            if one.name == "self":  # the output of a submodule of that name, as BERT has one: it would hide the module
                one._rename("self_")
        source, names = _code(module.graph) if path else _root_code(model)
        source = _ATEN.sub("aten.", source.strip()).rstrip()
        names |= {"aten": torch.ops.aten, "__name__": written.partition(".")[0]}  # torch.nn's own inside stays its own
        lines.append(" ".join(f"# {path or 'the root'} ({written})".split()))
        tree = ast.increment_lineno(ast.parse(source), len(lines))
        exec(compile(tree, name, "exec"), names)
        lines.extend([*source.splitlines(), ""])
        own = {"__module__": kind.__module__, "forward": names["forward"]}
        module.__class__ = type(written.rpartition(".")[2], (kind,), own)
    text = [f"{line}\n" for line in lines]
    linecache.cache[name] = (sum(map(len, text)), None, text, name)  # where inspect and traceback look for lines


def _code(graph: Any) -> tuple[str, dict[str, Any]]:
    """A forward as text, and what its names stand for."""
    code = graph.python_code("self")
    return code.src, dict(code.globals)


def _root_code(model: Any) -> tuple[str, dict[str, Any]]:
    """The root's forward with its own parameters: as generated it takes and returns flat lists."""
    from torch.export._unlift import _get_codegen

    signature = model.module_call_graph[0].signature
    args, kwargs = signature.in_spec.children()
    flat = [one.name for one in model.graph.nodes if one.op == "placeholder"]
    names = signature.forward_arg_names
    if not names and len(flat) == args.num_children + kwargs.num_children:
        names = [*flat[: args.num_children], *kwargs.context]
    model._in_spec, model._out_spec = signature.in_spec, signature.out_spec  # what the code asks for
    plain = model.graph._codegen
    model.graph._codegen = _get_codegen(signature.in_spec, signature.out_spec, names)
    try:
        source, globals_ = _code(model.graph)
        given = model.graph._codegen.pytree_info.orig_args
    finally:
        model.graph._codegen = plain
    passed = [one for one in given if one != "self"]
    passed = [*passed[: args.num_children], *(f"{one}={one}" for one in passed[args.num_children :])]
    head, colon, body = source.strip().partition(":\n")
    # as the root that it replaces does: sizes that the program does not take are refused before it runs
    check = f"    self.process_forward_inputs({', '.join(passed)})\n"
    return head + colon + check + body, globals_


@contextmanager
def _read(file: Path, what: str) -> Iterator[None]:
    """Turn what reading a program raises into one line; torch says nothing of its own code, as it is read."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # about torch's own code, and that TorchScript will not be for ever: the file is there, and is read
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r".*torch\.jit.* deprecated", category=DeprecationWarning)
            yield
    except TracecallError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(str(error).split())[:300]
        raise TracecallError(
            f"MODEL {shown(file)} cannot be read as a {what} program: {type(error).__name__}: {reason}; save it again"
            f" with torch {torch.__version__.partition('+')[0]}"
        ) from error
    finally:
        logging.disable(before)


@contextmanager
def _no_free_pickle() -> Iterator[None]:
    """While open, torch.export reads tensors alone: what its format allows beyond them could run any code."""
    package: Any = import_module("torch.export.pt2_archive._package")

    class Refusing:
        """Stands for the pickle module where torch.export reads opaque constants."""

        def __getattr__(self, name: str) -> Any:
            if name in ("loads", "load", "Unpickler"):
                raise pickle.UnpicklingError("it holds pickled objects, and reading those could run any code")
            return getattr(pickle, name)

    before = os.environ.get(_FORCED)
    kept = package.pickle
    os.environ[_FORCED] = "1"
    package.pickle = Refusing()
    try:
        yield
    finally:
        package.pickle = kept
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before
