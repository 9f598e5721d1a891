"""The timeline: held against the rules of the Trace Event Format, and against the times that were measured.

The rules are those of Google's document "Trace Event Format": JSON object format, duration events, metadata events.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest

from tests.views.traces import cnn, hook, module, operation, trace
from tracecall.calls import Call, CallError, Trace
from tracecall.errors import TracecallError
from tracecall.views.perfetto import DEVICE, HOST, LAYOUT, perfetto

METADATA = {"process_name": str, "thread_name": str, "process_sort_index": int}


def events(made: Trace) -> list[dict[str, Any]]:
    """The events, after every rule of the format was found kept."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    whole = json.loads(perfetto(made), parse_constant=refuse)
    assert set(whole) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert whole["displayTimeUnit"] in ("ms", "ns")
    assert all(isinstance(value, str) for value in whole["otherData"].values())
    named: set[tuple[str, int, int]] = set()
    open_: dict[tuple[int, int], int] = {}
    latest: dict[tuple[int, int], float] = {}
    for event in whole["traceEvents"]:
        assert {"ph", "ts", "pid", "tid"} <= set(event)
        assert event["ph"] in ("B", "E", "M")
        assert type(event["pid"]) is int and type(event["tid"]) is int
        assert isinstance(event["ts"], int | float) and math.isfinite(event["ts"]) and event["ts"] >= 0
        track = (event["pid"], event["tid"])
        if event["ph"] == "M":
            value = event["args"]["sort_index" if event["name"].endswith("index") else "name"]
            assert type(value) is METADATA[event["name"]]
            named.add((event["name"], *track))
            continue
        assert ("thread_name", *track) in named
        assert any(name == "process_name" and process == event["pid"] for name, process, _ in named)
        assert event["ts"] >= latest.get(track, 0), "times of a track never go back: so do pairs nest"
        latest[track] = event["ts"]
        if event["ph"] == "B":
            assert isinstance(event["name"], str) and event["name"]
            assert isinstance(event["cat"], str) and isinstance(event["args"], dict)
            open_[track] = open_.get(track, 0) + 1
        else:
            open_[track] = open_[track] - 1
            assert open_[track] >= 0, "an end belongs to a begin before it on the same track"
    assert not any(open_.values()), "every begin has its end"
    return whole["traceEvents"]


def spans(made: Trace, process: int = HOST, thread: int = 1) -> list[tuple[int, str, float, float]]:
    """Depth, name, start and end of the calls on one track, in order."""
    found: list[list[Any]] = []
    above: list[list[Any]] = []
    for event in events(made):
        if (event["pid"], event["tid"]) != (process, thread) or event["ph"] == "M":
            continue
        if event["ph"] == "B":
            above.append([len(above), event["name"], event["ts"], None])
            found.append(above[-1])
        else:
            above.pop()[3] = event["ts"]
    return [(depth, name, start, end) for depth, name, start, end in found]


def arguments(made: Trace, name: str) -> dict[str, Any]:
    return next(event["args"] for event in events(made) if event.get("name") == name and event["ph"] == "B")


def test_calls_are_as_long_as_they_were_measured():
    """Each has its median, in order, the root's own time spread between them."""
    found = spans(cnn())
    assert found[0] == (0, "CNN", 0.0, 300.0)
    lengths = {name: round(end - start, 3) for depth, name, start, end in found if depth == 1}
    assert lengths == {"conv1": 60, "F.relu": 2.75, "pool": 20, "conv2": 90, "x.view": 3, "fc1": 40, "fc2": 10}
    gaps = [round(later[2] - earlier[3], 2) for earlier, later in pairwise(found[1:])]
    assert len(set(gaps)) <= 2  # equal but for the nanosecond


def test_shapes_types_and_places_are_arguments():
    """What a reader asks of a slice that is clicked on."""
    assert arguments(cnn(), "conv2") == {
        "type": "Conv2d",
        "path": "conv2",
        "inputs": {"x": "float32[1, 16, 14, 14] ← pool #1"},
        "output": ["float32[1, 32, 14, 14]"],
        "site": "models/net.py:26",
        "parameters": 4640,
        "host_us": 90.0,
    }


def test_flops_and_memory_are_arguments():
    """Numbers stay numbers."""
    made = cnn()
    made.calls[0].children[0].flops = 12
    made.calls[0].children[0].output_bytes = 50176
    found = arguments(made, "conv1")
    assert (found["flops"], found["output_bytes"]) == (12, 50176)


def test_medians_that_do_not_add_up_stay_nested():
    """A call whose inside took longer is drawn as long as that; what was measured is told."""
    made = trace(module("Net", "Net", (1,), (1,), *[module(n, "A", (1,), (1,), us=60) for n in "ab"], us=100, path=""))
    assert spans(made) == [(0, "Net", 0, 120), (1, "a", 0, 60), (1, "b", 60, 120)]
    assert arguments(made, "Net")["host_us"] == 100


def test_the_file_says_that_starts_are_laid_out():
    """Only lengths were measured."""
    assert json.loads(perfetto(cnn()))["otherData"]["layout"] == LAYOUT


def test_a_call_without_a_time_is_there_without_a_length():
    """Its shapes can be found."""
    made = trace(module("Net", "Net", (1,), (1,), operation("x.view", "aten.view", (1,), (1,)), us=10, path=""))
    assert spans(made)[1] == (1, "x.view", 5, 5)


def test_hooks_are_slices_of_their_own():
    """With how they were registered and what they changed."""
    made = trace(module("Net", "Net", (1,), (1,), hook("log", "forward hook", ["output replaced"]), us=10, path=""))
    found = arguments(made, "log")
    assert (found["hook"], found["changed"]) == ("forward hook", ["output replaced"])


def test_another_thread_has_its_own_track():
    """Calls that overlap in time never share a track."""
    calls = [module(name, "A", (1,), (1,), module("in", "B", (1,), (1,), us=5), us=40) for name in "abcd"]
    for call, thread in zip(calls, [None, "worker", "worker", "other"], strict=True):
        call.thread = thread
    made = trace(module("Net", "Net", (1,), (1,), *calls, us=60, path=""))
    assert [name for _, name, *_ in spans(made)] == ["Net", "a", "in"]
    assert [name for _, name, *_ in spans(made, thread=2)] == ["b", "in", "c", "in"]
    assert [name for _, name, *_ in spans(made, thread=3)] == ["d", "in"]
    names = {event["args"]["name"] for event in events(made) if event.get("name") == "thread_name"}
    assert names == {"forward", "thread worker", "thread other"}


def test_a_device_has_its_own_tracks_only_where_it_was_measured():
    """Device time is laid out in the same way, without what ran nothing there."""
    assert {event["pid"] for event in events(cnn())} == {HOST}
    made = cnn()
    made.environment.devices = {"cuda:0": "NVIDIA H200"}
    made.calls[0].device_ns = 90_000
    made.calls[0].children[0].device_ns = 60_000
    assert spans(made, DEVICE) == [(0, "CNN", 0, 90), (1, "conv1", 2.727, 62.727)]
    assert "CNN: cuda:0 (NVIDIA H200)" in [event["args"].get("name") for event in events(made) if event["ph"] == "M"]


def test_several_runs_follow_each_other():
    """A trace of the user's own code may have more than one root."""
    made = cnn()
    made.calls.append(module("CNN", "CNN", (1, 3, 28, 28), (1, 10), us=50, path=""))
    assert [(start, end) for depth, _, start, end in spans(made) if depth == 0] == [(0, 300), (300, 350)]


def test_without_times_it_is_refused():
    """There is nothing to lay out."""
    made = trace(module("Net", "Net", (1,), (1,), path=""))
    with pytest.raises(TracecallError, match="record it without --repeat 0"):
        perfetto(made)
    made.error = CallError("ValueError", "no")
    with pytest.raises(TracecallError, match="failed before it was timed"):
        perfetto(made)


def test_hostile_names_are_text():
    """Quotes, escapes, lone surrogates and newlines."""
    name = 'a"}],\n\x1b[31m\ud800</script>'
    made = trace(module("Net", "Net", (1,), (1,), module(name, name, (1,), (1,), us=1, path=name), us=2, path=""))
    assert spans(made)[1][1] == 'a"}],\\n\\x1b[31m\\ud800</script>'


def test_depth_and_number_have_no_limit():
    """Deeper than Python's own stack, and 100,000 calls in one pass."""
    deep = Call("module", "m", "m", "M", host_ns=1)
    for _ in range(3000):
        deep = Call("module", "m", "m", "M", host_ns=1, children=[deep])
    deep.path = ""
    made = cnn()
    made.calls = [deep]
    assert max(depth for depth, *_ in spans(made)) == 3000
    made.calls = [
        Call(
            "module",
            "",
            "m",
            "M",
            host_ns=5,
            children=[Call("operation", "", "x", "aten.x", host_ns=1) for _ in range(100_000)],
        )
    ]
    assert len(spans(made)) == 100_001
