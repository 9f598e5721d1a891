"""The page and the notebook's fragment as text: what they hold, and that no name in them is markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.views.traces import cnn, module, operation, spec, trace
from tracecall.calls import Call, CallError, Cause, Finding, Fit, Prediction, Site, Trace, Value
from tracecall.errors import TracecallError
from tracecall.folding import folded
from tracecall.views import html
from tracecall.views.html import fragment, page
from tracecall.views.page.calls import lines
from tracecall.views.page.plain import DEEPEST

HOSTILE = (
    "</script><script>window.ran=1</script>",
    "<img src=x onerror='window.ran=1'>",
    "\"'><b>",
    "{{ 7*7 }}{% raw %}",
    "a\u202eb\u2066c",
    "<!--",
    "\x1b[31m\ud800",
)


class Read(HTMLParser):
    """The elements of a document with their attributes, the text outside scripts, and what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.deepest = 0
        self.held: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)
            self.deepest = max(self.deepest, len(self.open))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.held:
            self.held[self.open[-1]].append(data)
        else:
            self.text += data


def data_of(text: str) -> Any:
    """What the page's script reads."""
    return json.loads(Read(text).held["script"][0])


def hostile(names: tuple[str, ...] = HOSTILE) -> Trace:
    """Names, types, messages, notes and files that would be markup if they could."""
    calls = [module(name, name, (1, 2), (1, 2), us=5, line=3, path=f"inner.{i}") for i, name in enumerate(names)]
    made = trace(module("Net", names[0], (1, 2), (1, 2), *calls, us=50, path=""))
    made.settings.notes.extend(names)
    made.findings.extend(Finding("x", name, site=Site(name, 1, text=name)) for name in names)
    made.environment.devices = {name: name for name in names}
    return made


def nested(depth: int) -> Trace:
    """A call in a call in a call."""
    call = module("inner", "Inner", (2, 8), (2, 8), us=1)
    for i in range(depth - 1):
        call = module("inner", "Inner", (2, 8), (2, 8), call, us=2 + i)
    return trace(module("Net", "Net", (2, 8), (2, 8), us=depth + 5, path=""), calls=[_root(call, depth)])


def _root(call: Call, depth: int) -> Call:
    return module("Net", "Net", (2, 8), (2, 8), call, us=depth + 5, path="")


def failed() -> Trace:
    """A view that does not fit, with its cause and what would fit."""
    error = CallError("RuntimeError", "shape '[-1, 1568]' is invalid for input of size 2048")
    view = operation("x.view", "aten.view", (1, 32, 8, 8), None, Value("size", "[-1, 1568]"), line=27, error=error)
    root = module("CNN", "CNN", (1, 3, 32, 32), None, view, path="", error=error)
    site = Site("models/net.py", 27, text="x.view(-1, 32 * 7 * 7)")
    fits = [Fit("an input of 28…31 × 28…31", "--input 1,3,28,28"), Fit("x.view(-1, 2048)")]
    return trace(root, error=error, cause=Cause("view-size", "2048 values do not divide into 1568", "", site, fits))


def test_the_page_asks_nothing_of_the_network() -> None:
    """No address in any attribute, and a policy that allows this page's own script and style by their hashes alone."""
    read = Read(page(cnn()))
    for tag, attributes in read.tags:
        assert not {"src", "srcset", "action", "style"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "#") in ("data:,", "#calls", "#")
    assert "://" not in page(cnn())
    (policy,) = [one["content"] for _, one in read.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind, held in (("script", read.held["script"][1]), ("style", read.held["style"][0])):
        digest = base64.b64encode(hashlib.sha256(held.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_every_call_is_in_the_page_with_all_that_it_tells() -> None:
    """Names, types, shapes, lines and times, each text once; the root's chain in full."""
    data = data_of(page(cnn()))
    texts = data["texts"]
    assert len(texts) == len(set(texts))
    names = [texts[call[2]] for call in data["calls"]]
    assert names[:4] == ["CNN.__call__", "forward pre-hooks", "forward", "conv1"]
    assert names[-1] == "forward hooks"
    conv1 = data["calls"][3]
    assert [texts[i] for i in conv1[3:7]] == ["Conv2d", "conv1", "[1, 3, 28, 28] → [1, 16, 28, 28]", "models/net.py:25"]
    assert conv1[10] == 60_000
    rows = {row[0]: row for row in data["modules"]}
    assert rows["pool"][3:5] == [2, 50_000]
    assert rows["CNN"][9] == 194_578


@pytest.mark.parametrize("write", [page, fragment])
def test_a_hostile_name_is_text(write: Any) -> None:
    """Whatever a module is called, the elements are those of the same trace with harmless names."""
    text, harmless = write(hostile(HOSTILE)), write(hostile(tuple("abcdefg")))
    text.encode()  # a lone surrogate could not be written to a file
    assert Counter(tag for tag, _ in Read(text).tags) == Counter(tag for tag, _ in Read(harmless).tags)
    assert len(re.findall("<script", text)) == len(re.findall("<script", harmless))
    assert "{{ 7*7 }}" in (json.dumps(data_of(text)) if write is page else Read(text).text)
    assert not {"\u202e", "\u2066", "\x1b"} & set(text)


def test_a_failed_run_tells_its_cause_and_what_fits() -> None:
    """The line, the sentence, each fit with what to type, and what torch said; no chart without times."""
    text = Read(page(failed())).text
    assert "The run failed at models/net.py:27" in text
    assert "2048 values do not divide into 1568" in text
    assert "an input of 28…31 × 28…31 --input 1,3,28,28" in text
    assert "RuntimeError: shape '[-1, 1568]' is invalid for input of size 2048" in text
    assert "No times were measured, so there is no chart." in text


def test_findings_settings_and_the_prediction_are_there() -> None:
    made = cnn()
    made.findings = [Finding("unused", "pool2 was not used"), Finding("nan", "conv1 gave NaN", site=Site("net.py", 3))]
    made.settings.seed = 7
    text = " ".join(Read(page(made)).text.split())
    assert text.index("conv1 gave NaNnet.py:3") < text.index("pool2 was not used")
    assert "float32[1, 10] 0.03125, -0.125, 0.5, 1, 2, -3, …" in text
    assert "seed7" in text
    assert "untraced 290.0 µs" in text
    assert "medians of 100 runs" in text


@pytest.mark.parametrize(
    ("tensors", "listed", "said"),
    [
        (1, 1, []),
        (4, 4, []),
        (5, 5, ["the next 1 tensor"]),
        (24, 24, ["the next 20 tensors"]),
        (25, 24, ["the next 20 tensors", "and 1 more tensor"]),
        (2000, 24, ["the next 20 tensors", "and 1,976 more tensors"]),
        (4096, 24, ["the next 20 tensors", "and at least 4,072 more tensors"]),
    ],
)
def test_of_many_predictions_a_few_are_listed(tensors: int, listed: int, said: list[str]) -> None:
    """Four are seen at once, as in the terminal, twenty open with a click, and the rest is counted."""
    made = cnn()
    made.prediction = [Prediction(f"out[{i}]", made.prediction[0].tensor, [1]) for i in range(tensors)]
    text = page(made)
    section = " ".join(Read(text[text.index("prediction-title") :]).text.split())
    assert len(re.findall(r"out\[\d+\]", section)) == listed
    places = [section.index(one) for one in [*said, "How it was made"]]
    assert places == sorted(places)
    assert ("more" in section) == (tensors > listed)
    assert ('<details class="predicted">' in text) == (tensors > 4)


@pytest.mark.parametrize("write", [page, fragment])
def test_a_thousand_nested_calls_are_no_problem(write: Any) -> None:
    """HTML parsers nest no more than 512 elements: deeper calls stand beside each other, and none is lost."""
    text = write(nested(1000))
    if write is page:
        assert len(data_of(text)["calls"]) == 1004
    read = Read(text)
    assert read.deepest < 2 * DEEPEST + 20
    assert not read.open
    assert read.text.count("inner") >= 1000 or write is page


def test_the_fragment_is_a_tree_without_scripts() -> None:
    """Native elements, every call, and styles that reach nothing else in the notebook."""
    text = fragment(cnn())
    read = Read(text)
    assert {"details", "summary"} <= {tag for tag, _ in read.tags}
    assert not read.held["script"]
    for name in ("CNN.__call__", "conv1", "F.relu", "[1, 1568] → [1, 120]", "300.0 µs", ":25"):
        assert name in read.text
    for rule in read.held["style"][0].splitlines():
        assert all(part.strip().startswith(".tracecall-report") for part in rule.partition("{")[0].split(","))


def test_a_module_inside_itself_is_not_counted_twice() -> None:
    """The table adds up the outermost calls; a call inside one of the same module adds to its own time only."""
    inner = module("again", "Again", (1, 2), (1, 2), us=10, path="again")
    outer = module("again", "Again", (1, 2), (1, 2), inner, us=30, path="again")
    data = data_of(page(trace(module("Net", "Net", (1, 2), (1, 2), outer, us=40, path=""))))
    row = next(row for row in data["modules"] if row[0] == "again")
    assert row[3:5] == [2, 30_000]


def test_device_times_are_in_the_page_where_they_were_measured() -> None:
    made = trace(module("Net", "Net", spec((1, 2)), spec((1, 2)), us=40, path=""))
    made.calls[0].device_ns = 5000
    assert data_of(page(made))["calls"][0][12] == 5000


def test_the_fragment_folds_repeats_and_the_page_has_them_all() -> None:
    """In a cell a line stands for equal blocks; the page, which opens and searches, has every call below such a line."""
    blocks = [module(f"blocks.{i}", "Block", (2, 8), (2, 8), us=50 + i, line=5, path=f"blocks.{i}") for i in range(12)]
    made = trace(module("Net", "Net", (2, 8), (2, 8), *blocks, us=700, path=""))
    text = Read(fragment(made)).text
    assert "blocks.0 … blocks.11 ×12" in text
    assert "each 55.5 (50.0–61.0)" in text
    assert "blocks.7" not in text
    data = data_of(page(made))
    shown = [(call[0], data["texts"][call[1]], data["texts"][call[2]]) for call in data["calls"]]
    assert shown[3:] == [
        (2, "repeats", "blocks.0 … blocks.11 ×12"),
        *((3, "module", f"blocks.{i}") for i in range(12)),
        (1, "part", "forward hooks"),
    ]
    # without scripts it is closed at first
    (plain,) = re.findall(r"<noscript>.*</noscript>", page(made), re.DOTALL)
    assert '<details><summary><span class="repeats">blocks.0 … blocks.11 ×12</span>' in plain
    assert "blocks.7" in plain


def test_what_repeats_inside_what_repeats_has_a_line_in_each() -> None:
    """Runs in turn, too; every call stands once, in call order, as deep as its lines of repeats make it."""
    blocks = []
    for i in range(8):
        inside = [module(f"heads.{j}", "Head", (2, 8), (2, 8), us=3, line=9, path=f"b.{i}.heads.{j}") for j in range(4)]
        blocks.append(module(f"b.{i}", "Block", (2, 8), (2, 8), *inside, us=50, line=5, path=f"b.{i}"))
        blocks.append(module(f"n.{i}", "Norm", (2, 8), (2, 8), us=5, line=6, path=f"n.{i}"))
    made = trace(module("Net", "Net", (2, 8), (2, 8), *blocks, us=700, path=""))
    every = list(lines(made, folded(made)))
    assert [line.name for line in every if line.kind == "repeats"] == ["×8 in turn", *["heads.0 … heads.3 ×4"] * 8]
    calls = [line for line in every if line.kind == "module"]
    assert [line.call for line in calls] == [call for _, call in made.walk()]
    assert {line.depth for line in calls if line.type == "Head"} == {5}
    assert {line.depth for line in calls if line.type == "Norm"} == {3}


def test_a_line_of_repeats_is_hidden_with_all_that_it_stands_for() -> None:
    """Operations inside torch.nn are; what stands in the root's own forward is not, though its line is deeper."""

    def ops(path: str) -> list[Call]:
        return [
            operation("F.linear", "aten.linear", (2, 8), (2, 8), internal=True, path=path, line=7) for _ in range(4)
        ]

    made = trace(
        module("Net", "Net", (2, 8), (2, 8), *ops(""), module("fc", "Linear", (2, 8), (2, 8), *ops("fc")), path="")
    )
    shown = [(line.kind, line.hidden) for line in lines(made, folded(made)) if line.kind in ("repeats", "operation")]
    assert shown == [("repeats", False), *[("operation", False)] * 4, ("repeats", True), *[("operation", True)] * 4]


def test_without_jinja2_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch brings it; a saved trace may be shown where torch is not."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    html._environment.cache_clear()
    with pytest.raises(TracecallError, match="pip install jinja2"):
        page(cnn())
    monkeypatch.undo()
    html._environment.cache_clear()
