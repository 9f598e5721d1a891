"""What `diff --json` and `compare --json` print, from traces made by hand: documented fields, plain words, all calls."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tests.views.test_compare import FAR, FINE, SAME, comparison, net
from tests.views.test_diff import layers
from tests.views.traces import cnn
from tracecall.calls import Call, CallError, Finding, ModuleInfo, Trace
from tracecall.comparison import compare, compare_processes
from tracecall.recording.output_errors import OutputError
from tracecall.views.results import compare_result, diff_result


def plain(value: object) -> Any:
    """As who reads the JSON has it."""
    return json.loads(msgspec.json.encode(value))


def diffed(before: Trace, after: Trace) -> Any:
    return plain(diff_result(compare(before, after), ("a.json", "b.json")))


def test_a_diff_is_plain_data() -> None:
    """The calls of both in call order, each with its depth, what became of it and what changed."""
    before, after = net("one", "F.relu"), net("one", "F.gelu")
    after.modules["one"].parameters = after.modules["one"].trainable = 7
    found = diffed(before, after)
    assert found["format_version"] == 1
    assert (found["files"], found["model"], found["changed"]) == (["a.json", "b.json"], "Net", True)
    assert found["counts"] == {"added": 1, "removed": 1, "changed": 1, "same": 1}
    assert [(call["depth"], call["state"], call["name"], call["type"]) for call in found["calls"]] == [
        (0, "same", "Net", "Net"),
        (1, "changed", "one", "Linear"),
        (1, "removed", "F.relu", "aten.x"),
        (1, "added", "F.gelu", "aten.x"),
    ]
    assert found["calls"][1]["changes"] == [{"what": "parameters", "before": "0", "after": "7"}]
    assert found["calls"][1]["site"]["line"] == 24


def test_a_diff_has_times_with_what_they_may_as_well_be() -> None:
    """And the times of a call that only one has."""
    before, after = cnn(), cnn()
    for made in (before, after):
        for _, call in made.walk():
            call.samples, call.spread_ns = 50, 0
    after.calls[0].host_ns = 2 * (before.calls[0].host_ns or 0)
    del after.calls[0].children[-1]
    calls = diffed(before, after)["calls"]
    assert calls[0]["host_ns"] == [300_000, 600_000]
    assert calls[0]["time"] == {
        "before_ns": 300_000, "after_ns": 600_000, "ratio": 2.0, "low": 2.0, "high": 2.0, "verdict": "slower",
    }  # fmt: skip
    assert (calls[-1]["state"], calls[-1]["host_ns"], calls[-1]["time"]) == ("removed", [10_000, None], None)


def test_a_diff_tells_what_no_call_shows() -> None:
    """Modules without a call, how both were run and where, and what ended a run."""
    before, after = net("one"), net("one")
    after.modules["new"] = ModuleInfo("new", "Linear", parameters=4)
    after.model.training, after.environment.torch = True, "9.9"
    after.error = CallError("ValueError", "no")
    found = diffed(before, after)
    assert found["modules"] == [{"state": "added", "path": "new", "type": "Linear", "parameters": 4, "changes": []}]
    assert found["settings"] == [{"what": "mode", "before": "eval", "after": "train"}]
    assert [one["what"] for one in found["environment"]] == ["torch"]
    assert found["errors"] == [None, {"type": "ValueError", "message": "no"}]


def test_a_diff_has_what_all_calls_share_and_what_was_found_in_one() -> None:
    """The ratio of most, beside which a verdict is."""
    before, after = layers(8), layers(8, us=16)
    after.findings.append(Finding("nonfinite", "64 of 64 are NaN"))
    found = plain(diff_result(compare_processes(before, after), ("a.json", "b.json")))
    assert found["drifts"] == [{"clock": "host", "ratio": 1.6, "low": 1.6, "high": 1.6, "calls": 8}]
    assert found["findings"] == [[], [{"kind": "nonfinite", "message": "64 of 64 are NaN"}]]
    assert found["changed"] is False
    assert diffed(before, before)["drifts"] == []


def test_nothing_changed() -> None:
    """Every call is there all the same."""
    found = diffed(cnn(), cnn())
    assert found["changed"] is False
    assert {call["state"] for call in found["calls"]} == {"same"}
    assert found["counts"]["same"] == len(found["calls"]) == 11


def test_a_diff_is_as_deep_as_calls_are() -> None:
    """The list is flat, so that no reader's recursion ends."""
    made = net()
    call = made.calls[0]
    for _ in range(3000):
        call.children = [Call("module", "", "self", "Net")]
        call = call.children[0]
    assert diffed(made, made)["calls"][-1]["depth"] == 3000


def test_a_comparison_is_plain_data() -> None:
    """Who made each call, the error of its output, and where the runs part: of those beyond, the first that ended."""
    before, after = net("one", "F.relu", "two", "x.argmax"), net("one", "F.gelu", "two", "x.argmax")
    errors = {"one": SAME, "two": FAR, "x.argmax": OutputError(10, differing=3), "": FINE}
    found = plain(compare_result(comparison(before, after, errors)))
    assert found["format_version"] == 1
    assert (found["model"], found["names"]) == ("Net", ["float32", "bfloat16"])
    assert (found["tolerance"], found["tolerance_from"]) == (0.05, "as given")
    assert (found["failed"], found["beyond"], found["compared"]) == (True, 2, 4)
    calls = found["calls"]
    assert calls[found["first_beyond"]]["name"] == "two"
    assert [(call["name"], call["made_by"], call["beyond"]) for call in calls] == [
        ("Net", "both", False),
        ("one", "both", False),
        ("F.relu", "first", False),
        ("F.gelu", "second", False),
        ("two", "both", True),
        ("x.argmax", "both", True),
    ]
    assert calls[4]["error"] == {"elements": 10, "max_abs": 0.5, "relative": 0.25, "cosine": 0.75}
    assert calls[2]["error"] is None


def test_a_comparison_tells_the_second_path_and_the_calls_that_failed() -> None:
    """As the text marks them."""
    before, after = net("mlp", "one"), net("ff", "one")
    after.error = CallError("ValueError", "no")
    for call in (after.calls[0], after.calls[0].children[1]):
        call.error = CallError("ValueError", "no")
    found = plain(compare_result(comparison(before, after, {})))
    calls = [(call["path"], call["second_path"], call["raised"]) for call in found["calls"]]
    assert calls == [("", None, "second"), ("mlp", "ff", None), ("one", None, "second")]


def test_a_comparison_within_the_tolerance() -> None:
    """No call is the first beyond it."""
    found = plain(compare_result(comparison(net("one"), net("one"), {"one": SAME, "": FINE})))
    assert (found["failed"], found["first_beyond"], found["beyond"]) == (False, None, 0)
