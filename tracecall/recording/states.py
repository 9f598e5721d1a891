"""What became of every module in a run (called, bypassed, weights-used, raised, unused), each with its proof."""

from __future__ import annotations

from torch import nn

from tracecall.calls import Call, Finding, Site, Trace
from tracecall.recording.recorder import Recorder
from tracecall.recording.sites import assignment_site, site

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def find_states(recorder: Recorder, trace: Trace) -> None:
    """Set every ModuleInfo's state and add the findings."""
    readers: dict[str, Call] = {}
    for _, call in trace.walk():
        if call.kind == "module":
            info = trace.modules[call.path]
            if call.error is None or info.state == "called":
                info.state = "called"
            else:
                info.state = "raised"
                if call.error.caught:
                    trace.findings.append(_raised(call))
        for label in call.reads or ():
            readers.setdefault(label.rpartition(".")[0], call)
    bypassed = {path: site(place) for path, place in recorder.bypasses.items()}
    for path, info in trace.modules.items():
        if info.state == "unused":
            if path in bypassed:
                info.state = "bypassed"
            elif path in readers:
                info.state = "weights-used"
    _containers(recorder, trace)
    _unseen(recorder, trace)
    trace.findings.extend(_bypassed(path, where) for path, where in bypassed.items())
    trace.findings.extend(_weights_used(trace, readers))
    waiting = [call for call in trace.calls if any(value.value == "<generator>" for value in call.output)]
    if trace.error is None and recorder.operations != "none" and recorder.calls and not waiting:
        trace.findings.extend(_unused(recorder, trace))


def is_container(module: nn.Module) -> bool:
    """Whether a module only holds others: it has no forward that could be called."""
    return isinstance(module, _CONTAINERS) or getattr(type(module), "forward", None) is nn.Module.forward


def _containers(recorder: Recorder, trace: Trace) -> None:
    """A container counts as called when anything in it was: it is a part of paths, not of the call chain."""
    for path, module in reversed(recorder.modules.by_path.items()):
        info = trace.modules[path]
        if info.state in ("unused", "weights-used") and is_container(module):
            info.container = True
        if info.state == "unused" and info.container:
            inside = (other for other in trace.modules.values() if other.path.startswith(path + "."))
            if any(other.state != "unused" for other in inside):
                info.state = "called"


def _unseen(recorder: Recorder, trace: Trace) -> None:
    """Claim nothing of modules inside an opaque call, or of uncalled ones where not everything was recorded."""
    closed = {call.path for _, call in trace.walk() if call.opaque and call.kind == "module"}
    for path, info in trace.modules.items():
        above = [path[:cut] for cut, char in enumerate(path) if char == "."]
        inside = any(one in closed for one in above) or ("" in closed and path != "")
        if info.state == "unused" and (inside or recorder.operations == "none" or recorder.forwards_hidden):
            info.state = "unseen"


def _raised(call: Call) -> Finding:
    assert call.error is not None
    return Finding(
        "raised-and-caught",
        f"{call.path} ({call.type}) raised {call.error.type}, and the code around it caught that and went on",
        call.path,
        call.site,
    )


def _bypassed(path: str, where: Site) -> Finding:
    return Finding(
        "bypassed", f"{path}.forward was called directly, without __call__: hooks on {path} do not run", path, where
    )


def _weights_used(trace: Trace, readers: dict[str, Call]) -> list[Finding]:
    """One finding for each expression that did the work of modules which were not called."""
    by_site: dict[object, tuple[Call, list[str]]] = {}
    for path, call in readers.items():
        if trace.modules[path].state == "weights-used" and not trace.modules[path].container:
            by_site.setdefault(call.site or id(call), (call, []))[1].append(path)
    return [
        Finding(
            "weights-used",
            f"{call.name} read the parameters of {_some(paths)} without calling {'it' if len(paths) == 1 else 'them'}",
            paths[0],
            call.site,
        )
        for call, paths in by_site.values()
    ]


def _some(paths: list[str]) -> str:
    shown = ", ".join(paths[:2])
    more = len(paths) - 2
    return shown if more < 1 else f"{shown} and {more} more module{'' if more == 1 else 's'}"


def _unused(recorder: Recorder, trace: Trace) -> list[Finding]:
    """One finding for each line that made modules which nothing used; what is inside an unused one is not repeated."""
    unused = {path for path, info in trace.modules.items() if info.state == "unused" and path}
    used_within = {
        path[:cut] for path in trace.modules if path not in unused for cut, char in enumerate(path) if char == "."
    }
    by_site: dict[object, tuple[Site | None, list[str]]] = {}
    for path in trace.modules:
        if trace.modules[path].container and not any(other.startswith(path + ".") for other in trace.modules):
            continue  # it holds nothing
        if path in unused and path.rpartition(".")[0] not in unused and path not in used_within:
            made = _made(recorder, path)
            by_site.setdefault((made, trace.modules[path].type) if made else path, (made, []))[1].append(path)
    return [
        Finding("unused", f"{_some(paths)} ({trace.modules[paths[0]].type}) took no part in this run", paths[0], made)
        for made, paths in by_site.values()
    ]


def _made(recorder: Recorder, path: str) -> Site | None:
    """The line in its owner's class that assigns the module: `self.name = …`."""
    parent, _, name = path.rpartition(".")
    owner = recorder.modules.by_path.get(parent)
    while owner is not None and is_container(owner) and parent:
        parent, _, name = parent.rpartition(".")
        owner = recorder.modules.by_path.get(parent)
    return None if owner is None else assignment_site(type(owner), name)
