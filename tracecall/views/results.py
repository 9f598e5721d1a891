"""What `tracecall diff --json` and `tracecall compare --json` print: all that their pages show, as data.

The calls of both runs stand in one list, in call order with the depth of each, whatever `--depth` and `--ops` leave out
of the tree. A field whose name ends in `_ns` is in nanoseconds. What is not known is null; in a site, a ratio, an error
and a finding, as in a saved trace, it is not there, nor is what is as usual: a ratio's `clock` where it is "host".
Fields may be added, never renamed. A number that JSON lacks, NaN or infinity, is null.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from tracecall.calls import CallError, Finding, Kind, Site
from tracecall.comparison import ADDED, CHANGED, REMOVED, Change, Difference, Drift, Pair, Ratio, model_of
from tracecall.views.compared import Comparison

if TYPE_CHECKING:
    from tracecall.recording.output_errors import OutputError

FORMAT_VERSION = 1

State = Literal["added", "removed", "changed", "same"]
Made = Literal["both", "first", "second"]
_STATES: dict[str, State] = {ADDED: "added", REMOVED: "removed", CHANGED: "changed", "": "same"}


class ChangedCall(Struct):
    """A call of one trace or of both: as it is after, or as it was if it is gone. Times alone make no change."""

    depth: int  # of the root: 0
    state: State
    kind: Kind
    path: str
    name: str
    type: str
    site: Site | None
    changes: list[Change]  # what, before, after: as text
    host_ns: tuple[int | None, int | None]  # before, after
    time: Ratio | None  # after by before, and from `low` to `high` what it may as well be; None: one was not timed


class ChangedModule(Struct):
    """A module that no call of both traces shows. Of one that changed, `parameters` are those after."""

    state: State
    path: str
    type: str
    parameters: int
    changes: list[Change]


class DiffResult(Struct):
    """What changed from one trace to another. The exit status is 1 where `changed` is true."""

    format_version: int
    files: tuple[str, str]  # before, after
    model: str
    changed: bool
    counts: dict[State, int]  # of calls
    settings: list[Change]  # how both were run
    environment: list[Change]  # where: no change of the model
    errors: tuple[CallError | None, CallError | None]  # that ended the runs
    calls: list[ChangedCall]
    modules: list[ChangedModule]
    drifts: list[Drift]  # what the times of calls share that did not change: a verdict is beside it
    findings: tuple[list[Finding], list[Finding]]  # that only one has: before, after; no change


class ComparedCall(Struct):
    """A call that both runs made, or one of them."""

    depth: int  # of the root: 0
    made_by: Made
    kind: Kind
    path: str
    name: str
    type: str  # of the first run's, if it made it
    site: Site | None
    error: OutputError | None  # max_abs, relative, cosine, nonfinite, differing, shapes…; None: it was not compared
    beyond: bool  # the tolerance
    host_ns: tuple[int | None, int | None]  # of the first, of the second
    time: Ratio | None  # the second's by the first's
    second_path: str | None  # where it has another one than `path`
    raised: Made | None  # the exception that ended a run came through it: which run's


class CompareResult(Struct):
    """How far two runs are apart. The exit status is 1 where `failed` is true."""

    format_version: int
    model: str
    origin: str | None  # "models/cnn.py:14"
    names: tuple[str, str]  # what sets the runs apart: "float32", "bfloat16"
    tolerance: float  # of each error's `relative`
    tolerance_from: str  # "the default for bfloat16", "as given"
    failed: bool  # something is beyond the tolerance, a forward raised, or nothing could be compared
    first_beyond: int | None  # its place in `calls`: of those beyond the tolerance, the first that ended
    beyond: int  # how many calls are
    compared: int  # calls of whose output anything was compared
    uncompared: int  # calls of both whose outputs could not be had again
    errors: tuple[CallError | None, CallError | None]  # that ended the runs
    notes: list[str]
    calls: list[ComparedCall]


def diff_result(found: Difference, files: tuple[str, str]) -> DiffResult:
    """The result of a diff; `files` say where the traces come from."""
    calls = [
        ChangedCall(depth, _STATES[pair.sign], *_named(pair), pair.call.site, pair.changes, _host(pair), pair.time)
        for depth, pair in found.walk()
    ]
    counts = Counter(call.state for call in calls)
    return DiffResult(
        FORMAT_VERSION,
        files,
        model_of(found.after),
        found.changed,
        {state: counts[state] for state in _STATES.values()},
        found.settings,
        found.environment,
        (found.before.error, found.after.error),
        calls,
        [ChangedModule(_STATES[one.sign], one.path, one.type, one.parameters, one.changes) for one in found.modules],
        list(found.bounds.drifts),
        found.findings,
    )


def compare_result(found: Comparison) -> CompareResult:
    """The result of a comparison."""
    parted, first_beyond = found.parted, None
    both = (found.difference.before, found.difference.after)
    failed = [{id(call) for call in trace.failed()} for trace in both]
    calls: list[ComparedCall] = []
    for depth, pair in found.difference.walk():
        error = found.errors.get(id(pair.before))
        if parted is not None and pair.before is parted:
            first_beyond = len(calls)
        made_by: Made = "second" if pair.before is None else "first" if pair.after is None else "both"
        site = (pair.before or pair.call).site
        beyond = error is not None and error.beyond(found.tolerance)
        named = _named(pair, first=True)
        other = None if pair.after is None or pair.after.path == named[1] else pair.after.path
        raised = _raised(id(pair.before) in failed[0], id(pair.after) in failed[1])
        calls.append(ComparedCall(depth, made_by, *named, site, error, beyond, _host(pair), pair.time, other, raised))
    before, after = found.difference.before, found.difference.after
    return CompareResult(
        FORMAT_VERSION,
        model_of(before),
        before.model.origin,
        found.names,
        found.tolerance,
        found.why,
        found.failed,
        first_beyond,
        sum(call.beyond for call in calls),
        len(found.compared),
        found.uncompared,
        (before.error, after.error),
        found.notes,
        calls,
    )


def _raised(first: bool, second: bool) -> Made | None:
    return "both" if first and second else "first" if first else "second" if second else None


def _named(pair: Pair, *, first: bool = False) -> tuple[Kind, str, str, str]:
    """Kind, path, name and type of a call; the root goes by its class."""
    call = pair.before or pair.call if first else pair.call
    kind = (pair.types[0] or pair.type) if first else pair.type
    return call.kind, call.path, call.name if call.path or call.kind != "module" else kind, kind


def _host(pair: Pair) -> tuple[int | None, int | None]:
    before, after = pair.before, pair.after
    return None if before is None else before.host_ns, None if after is None else after.host_ns
