"""The object that MODEL names: its file or module imported, and the class, function or instance picked from it."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tracecall.errors import TracecallError
from tracecall.loading.places import shown
from tracecall.loading.specs import ModelSpec
from tracecall.loading.usercode import user_code

# Top-level names that came from a user's folder: another folder's file of the same name replaces them.
_imported: set[str] = set()


@contextmanager
def importable(file: Path | None) -> Iterator[None]:
    """While open, a file's package and its siblings can be imported; without a file, the current folder's modules.

    Two folders that each have a `utils.py` are kept apart. sys.path is as before afterwards.
    """
    root = Path.cwd() if file is None else _root_and_name(file)[0]
    own = root if file is None else file.parent
    for folder in {root, own}:
        _forget_namesakes(folder)
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    if own != root:
        sys.path.append(str(own))  # last: a package's own types.py must not stand for the standard library's
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(root))
        if own != root:
            with suppress(ValueError):
                del sys.path[len(sys.path) - 1 - sys.path[::-1].index(str(own))]
        _imported.update(
            name for name in set(sys.modules) - before if "." not in name and _is_below(sys.modules[name], {root, own})
        )


def import_file(file: Path) -> ModuleType:
    """Import a file under the name that Python itself would give it; to be called inside `importable(file)`."""
    root, name = _root_and_name(file)
    advice = f"; type python {shown(file)} to see the whole traceback"
    with user_code(f"importing {shown(file)}", root, advice):
        if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) and _found_there(name, file):
            return importlib.import_module(name)
        return _import_alone(file)


def import_place(place: str) -> ModuleType:
    """Import `package.module`; to be called inside `importable(None)`."""
    with user_code(f"importing {place}"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise TracecallError(
                f"MODEL names the module {place}, and {error.name!r} is not importable from {Path.cwd()} with"
                f" {sys.executable}; install it there, or type path/to/file.py:Name"
            ) from error


def pick(module: ModuleType, spec: ModelSpec) -> tuple[str, Any]:
    """Return what MODEL names in the module, with its name; without a Name, `build_model` or the only model."""
    if spec.name is None:
        return _only_model(module, spec)
    found: Any = module
    for part in spec.name.split("."):
        with user_code(f"importing {spec.name} from {spec.place}"):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                raise _no_such_name(module, spec) from error
    return spec.name, found


def _only_model(module: ModuleType, spec: ModelSpec) -> tuple[str, Any]:
    if callable(getattr(module, "build_model", None)):
        return "build_model", module.build_model
    classes, instances = _models(module)
    own = {name: one for name, one in instances.items() if type(one) in classes.values()}
    for models in (own, classes, {} if classes else instances):
        if len(models) == 1:
            return next(iter(models.items()))
    names = [*instances, *classes]
    if not names:
        raise TracecallError(
            f"{spec.place} has no nn.Module class, no module instance and no build_model(); add one,"
            " or type path/to/file.py:Name"
        )
    raise TracecallError(
        f"{spec.place} has several models: {', '.join(names)}; type for example {spec.place}:{names[-1]},"
        " or add build_model() to the file"
    )


def _no_such_name(module: ModuleType, spec: ModelSpec) -> TracecallError:
    assert spec.name is not None
    classes, instances = _models(module)
    build = ["build_model"] if callable(getattr(module, "build_model", None)) else []
    candidates = [*classes, *instances, *build]
    close = get_close_matches(spec.name, [*candidates, *dir(module)], n=1)
    listed = ", ".join(candidates[:12]) + (", …" if len(candidates) > 12 else "")
    has = f"; its models: {listed}" if listed else ""
    hint = "; did you mean" if close else "; type for example"
    example = close[0] if close else next(iter(candidates), None)
    to_type = f"{hint} {spec.place}:{example}" if example else "; type path/to/file.py:Name"
    return TracecallError(f"{spec.place} has no {spec.name!r}{has}{to_type}{'?' if close else ''}")


def _models(module: ModuleType) -> tuple[dict[str, type[nn.Module]], dict[str, nn.Module]]:
    """Return the nn.Module classes that the module itself defines and the instances that it holds, each once."""
    classes: dict[str, type[nn.Module]] = {}
    instances: dict[str, nn.Module] = {}
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(value, type):
            known = value in classes.values()
            if issubclass(value, nn.Module) and value.__module__ == module.__name__ and not known:
                classes[name] = value
        elif isinstance(value, nn.Module) and not any(value is one for one in instances.values()):
            instances[name] = value
    return classes, instances


def _root_and_name(file: Path) -> tuple[Path, str]:
    """Return the folder to import from and the dotted name: up through every folder that is a package."""
    folder, names = file.parent, [] if file.stem == "__init__" else [file.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names) or file.stem


def _found_there(name: str, file: Path) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # another module has the name of its package, or it is __main__
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file.resolve()


def _import_alone(file: Path) -> ModuleType:
    """Import a file whose own name is taken (random.py) or no name at all (my-model.py)."""
    name = "tracecall_file_" + re.sub(r"\W", "_", file.stem)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file):
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _forget_namesakes(folder: Path) -> None:
    for name in list(_imported):
        module = sys.modules.get(name)
        here = (folder / f"{name}.py").is_file() or (folder / name).is_dir()
        if module is None or not here or _is_below(module, {folder}):
            continue
        _imported.discard(name)
        for one in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[one]


def _is_below(module: ModuleType, folders: set[Path]) -> bool:
    """Whether the module lies in one of the folders itself: `folder/name.py` or `folder/name/`."""
    places = [Path(place) for place in getattr(module, "__path__", ())] or [
        Path(getattr(module, "__file__", None) or "")
    ]
    return any(place.parent == folder for place in places for folder in folders)
