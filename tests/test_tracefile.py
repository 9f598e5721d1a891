"""A saved trace: read as it was written, whole or not at all, and nothing in a file can do harm."""

import functools
import gzip
import json
import os
import random
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import tracecall
from tracecall import tracefile, writing
from tracecall.calls import Call, Environment, ModelInfo, ModuleInfo, Trace
from tracecall.errors import TracecallError


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x).relu()


def recorded() -> Trace:
    return tracecall.trace(Small(), torch.ones(1, 4))


@functools.cache
def as_json() -> bytes:
    return tracefile.encoded(recorded())


def nested(depth: int) -> Trace:
    """A trace of `depth` calls, each inside the one before."""
    outer = Call("module", "", "Deep", "Deep")
    trace = Trace(ModelInfo("Deep"), Environment("2.13.0", "3.11"), calls=[outer])
    for _ in range(depth - 1):
        outer.children.append(Call("module", "again", "again", "Deep"))
        outer = outer.children[0]
    return trace


def refusal(path: Path, **options: Any) -> str:
    """What is said about a file that cannot be read: one line."""
    with pytest.raises(TracecallError) as caught:
        tracefile.load(path, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert str(path) in said
    return said


def changed(**fields: object) -> bytes:
    """A saved trace with some of its fields changed."""
    return json.dumps({**json.loads(as_json()), **fields}).encode()


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz", "trace", "TRACE.JSON.GZ"])
def test_a_trace_is_read_as_it_was_written(name, tmp_path):
    trace = recorded()
    trace.save(tmp_path / name)
    assert tracecall.load(tmp_path / name) == trace
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.lower().endswith(".gz")


def test_a_packed_file_is_known_by_what_it_holds(tmp_path):
    """A file that a browser unpacked and left its name, or that lost its ending, is read all the same."""
    recorded().save(tmp_path / "trace.json.gz")
    (tmp_path / "renamed.json").write_bytes((tmp_path / "trace.json.gz").read_bytes())
    (tmp_path / "unpacked.json.gz").write_bytes(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    assert tracecall.load(tmp_path / "renamed.json") == tracecall.load(tmp_path / "unpacked.json.gz")


def test_the_same_trace_gives_the_same_bytes(tmp_path):
    trace = recorded()
    trace.save(tmp_path / "one.json.gz")
    trace.save(tmp_path / "two.json.gz")
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_a_prediction_of_nan_and_infinity_is_read_again(tmp_path):
    """JSON has no such numbers."""
    trace = tracecall.trace(nn.Identity(), torch.tensor([float("nan"), float("inf"), -float("inf")]))
    trace.save(tmp_path / "trace.json")
    assert str(tracecall.load(tmp_path / "trace.json").prediction[0].values) == "[nan, inf, -inf]"
    assert str(trace.prediction[0].values) == "[nan, inf, -inf]"


def test_a_text_that_is_no_unicode_is_no_reason_not_to_save(tmp_path):
    """The name of a file may be any bytes; Python has those that are not UTF-8 as halves of characters."""
    trace = nested(tracefile.DEEPEST)
    trace.model.origin = "mod\udcffel.py"
    trace.save(tmp_path / "trace.json")
    assert tracecall.load(tmp_path / "trace.json").model.origin == "mod?el.py"


@pytest.mark.parametrize("depth", [1000, tracefile.DEEPEST])
def test_calls_may_be_nested_as_deep_as_a_model_can(depth, tmp_path):
    """Python's own limit, 1,000, is not the file's."""
    nested(depth).save(tmp_path / "deep.json.gz")
    assert sum(1 for _ in tracecall.load(tmp_path / "deep.json.gz").walk()) == depth


def test_calls_that_are_nested_deeper_are_refused_as_they_are_saved(tmp_path):
    with pytest.raises(TracecallError, match="more than 2,000 calls inside each other"):
        nested(tracefile.DEEPEST + 1).save(tmp_path / "deep.json")
    assert not list(tmp_path.iterdir())


def test_the_recursion_limit_is_left_as_it_was(tmp_path):
    before = sys.getrecursionlimit()
    nested(100).save(tmp_path / "deep.json")
    tracecall.load(tmp_path / "deep.json")
    assert sys.getrecursionlimit() == before


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    """A full disk in the middle leaves the file that was there, and nothing beside it."""
    file = tmp_path / "trace.json"
    recorded().save(file)
    before = file.read_bytes()

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as part:
            part.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TracecallError, match=r"cannot be written: No space left on device; type another place"):
        recorded().save(file)
    assert [one.name for one in tmp_path.iterdir()] == ["trace.json"]
    assert file.read_bytes() == before


def test_a_link_and_the_rights_of_a_file_are_kept(tmp_path):
    file, link = tmp_path / "trace.json", tmp_path / "link.json"
    file.write_text("")
    file.chmod(0o640)
    link.symlink_to(file)
    recorded().save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert tracecall.load(file) == tracecall.load(link)


@pytest.mark.parametrize("place", ["missing/trace.json", ".", "", "nul\0l.json"])
def test_a_place_that_cannot_be_written_is_said(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for refused in (lambda: recorded().save(place), lambda: writing.check_place(place, "the trace")):
        with pytest.raises(TracecallError, match=r"cannot be written: .*; type another place for the trace"):
            refused()


def test_an_older_version_is_read(tmp_path):
    """Its JSON is brought up version by version: here one in which calls stood in `tree` and times were µs."""
    plain = json.loads(tracefile.encoded(recorded()))
    old = {**plain, "format_version": 0, "tree": plain.pop("calls")}
    old.pop("calls", None)
    old["tree"][0]["us"] = 12
    (tmp_path / "old.json").write_text(json.dumps(old))

    def from_0(plain: dict[str, Any]) -> dict[str, Any]:
        calls = plain.pop("tree")
        for one in calls:
            one["host_ns"] = one.pop("us") * 1000
        return {**plain, "calls": calls}

    trace = tracefile.load(tmp_path / "old.json", upgrades={0: from_0})
    assert trace.format_version == 1
    assert trace.calls[0].host_ns == 12_000
    assert "format version 0, which never was; save a trace with" in refusal(tmp_path / "old.json")


def test_a_version_that_is_read_no_longer_is_refused(tmp_path, monkeypatch):
    """Of which there is none yet."""
    (tmp_path / "old.json").write_bytes(changed())
    monkeypatch.setattr(tracefile, "FORMAT_VERSION", 2)
    assert "format version 1, which this tracecall no longer reads; save a trace" in refusal(tmp_path / "old.json")


def test_a_file_without_a_version_is_refused(tmp_path):
    """Whatever is saved says its version."""
    plain = json.loads(changed())
    del plain["format_version"]
    (tmp_path / "t.json").write_text(json.dumps(plain))
    assert "missing required field `format_version`" in refusal(tmp_path / "t.json")


def test_what_never_was_a_trace_is_not_advised_to_be_written_over(tmp_path):
    """It may be a model's source."""
    (tmp_path / "net.py").write_text("import torch\n")
    said = refusal(tmp_path / "net.py")
    assert said.endswith("; save a trace with `tracecall run MODEL --save trace.json`")


def test_a_damaged_file_of_an_older_version_is_refused(tmp_path):
    """What an upgrade does not find is no traceback."""
    (tmp_path / "old.json").write_bytes(changed(format_version=0))
    assert "no whole saved trace (" in refusal(tmp_path / "old.json", upgrades={0: lambda plain: plain["tree"]})
    assert "no whole saved trace (" in refusal(tmp_path / "old.json", upgrades={0: lambda plain: {"model": 3}})


@pytest.mark.parametrize("fields", [{}, {"calls": {"anything": "else"}}, {"model": None}])
def test_a_newer_version_is_refused_whatever_it_holds(fields, tmp_path):
    (tmp_path / "new.json").write_bytes(changed(format_version=2, **fields))
    assert "has format version 2, this tracecall reads up to 1; update it" in refusal(tmp_path / "new.json")


HOSTILE = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n", "it is empty"),
    "no JSON": (b"# a model\n", "JSON is malformed"),
    "a pickle": (b"\x80\x04cos\nsystem\n", "JSON is malformed"),
    "not UTF-8": (changed().replace(b"Small", b"\xff\xfe"), "utf-8"),
    "truncated": (changed()[:-20], "no whole saved trace ("),
    "two": (changed() * 2, "trailing"),
    "NaN": (b'{"model": NaN}', "JSON is malformed"),
    "a list": (b"[]", "Expected `object`, got `array`"),
    "another file": (b'{"name": "x", "version": 1}', "missing required field"),
    "wrong types": (changed(calls=[{"kind": "module", "path": 3, "name": "", "type": ""}]), r"$.calls[0].path"),
    "unknown kind": (changed(calls=[{"kind": "exec", "path": "", "name": "", "type": ""}]), r"$.calls[0].kind"),
    "text for a number": (changed(timing={"untraced_ns": "1", "traced_ns": 1}), r"$.timing.untraced_ns"),
    "a version that is text": (changed(format_version="__import__('os')"), r"$.format_version"),
    "a version below": (changed(format_version=-1), "format version -1, which never was"),
    "paths that do not agree": (changed(modules={"a": {"path": "b", "type": "T"}}), "the module at 'a' says"),
    "a huge number": (changed(timing={"untraced_ns": 10**400, "traced_ns": 1}), r"$.timing.untraced_ns"),
    "a huge prediction": (
        changed(
            prediction=[{"where": "", "tensor": {"shape": [], "dtype": "int64", "device": "cpu"}, "values": [2**64]}]
        ),
        r"$.prediction[0].values",
    ),
    "a number beyond text": (b'{"format_version": ' + b"9" * 10_000 + b"}", "no whole saved trace"),
    "a float beyond a number": (
        changed(format_version=1).replace(b'"format_version": 1', b'"format_version": 1e999'),
        "(",
    ),
    "deep lists": (b'{"x":' + b"[" * 1_000_000, "nested deeper than 2,000 calls"),
    "deep calls": (
        changed()[:-1] + b',"calls":' + b'[{"kind":"module","path":"","name":"","type":"","children":' * 1_000_000,
        "nested deeper than 2,000 calls",
    ),
    "UTF-16": (changed().decode().encode("utf-16"), "it begins with a byte order mark, as a shell's `>` writes one"),
    "for Perfetto": (b'{"traceEvents":[]}', "it is for ui.perfetto.dev, as --perfetto writes it"),
    "zipped and cut": (gzip.compress(changed())[:-30], "the file ends too early"),
    "zipped and damaged": (gzip.compress(changed())[:30] + b"x" * 300, "its gzip data is damaged"),
    "a zip's beginning": (b"\x1f\x8b", "the file ends too early"),
    "zipped nothing": (gzip.compress(b""), "it is empty"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_or_hostile_file_is_one_line(name, tmp_path):
    data, said = HOSTILE[name]
    (tmp_path / "trace.json").write_bytes(data)
    assert said in refusal(tmp_path / "trace.json")


def with_field(place: tuple[str | int, ...], value: object) -> bytes:
    """A saved trace with one field changed, anywhere in it."""
    plain = json.loads(as_json())
    inside = plain
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return json.dumps(plain).encode()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("calls", 0, "host_ns"), -99, "Expected `int` >= 0 - at `$.calls[0].host_ns`"),
        (("calls", 0, "children", 1, "samples"), -1, "`$.calls[0].children[1].samples`"),
        (("calls", 0, "device_self_ns"), -1, "`$.calls[0].device_self_ns`"),
        (("calls", 0, "host_ns"), 1.5, "got `float` - at `$.calls[0].host_ns`"),
        (("calls", 0, "host_ns"), float("nan"), "JSON is malformed: invalid character"),
        (("calls", 0, "output", 0, "value", "shape"), [2, -1], "`$.calls[0].output[0].value.shape[1]`"),
        (("modules", "fc", "parameters"), -1, "`$.modules['fc'].parameters`"),
        (("model", "trainable"), -1, "`$.model.trainable`"),
        (("timing",), {"untraced_ns": 1, "traced_ns": -1}, "`$.timing.traced_ns`"),
        (("settings", "seed"), 2**63, "`$.settings.seed`"),
    ],
)
def test_a_number_that_no_run_has_is_refused_with_its_place(place, value, said, tmp_path):
    """No time or count is below zero."""
    (tmp_path / "trace.json").write_bytes(with_field(place, value))
    assert said in refusal(tmp_path / "trace.json")


def test_what_is_no_json_is_shown(tmp_path):
    """Some writers leave NaN, which JSON does not have."""
    (tmp_path / "trace.json").write_bytes(with_field(("calls", 0, "host_ns"), float("nan")))
    assert '"host_ns": NaN' in refusal(tmp_path / "trace.json")


@pytest.mark.parametrize("place", ["host_self_ns", "device_allocated"])
def test_what_a_run_can_have_below_zero_is_read(place, tmp_path):
    """The time of the calls inside is measured as well as the whole; memory may be given back."""
    (tmp_path / "trace.json").write_bytes(with_field(("calls", 0, place), -5))
    assert getattr(tracefile.load(tmp_path / "trace.json").calls[0], place) == -5


def test_the_place_of_a_number_deep_inside_is_cut(tmp_path):
    """The line has an end, however deep the calls are."""
    trace = nested(1000)
    *_, (_, last) = trace.walk()
    last.host_ns = -1
    (tmp_path / "trace.json").write_bytes(tracefile.encoded(trace))
    said = refusal(tmp_path / "trace.json")
    assert ".children[0].host_ns`" in said
    assert len(said) < 400 + 2 * len(str(tmp_path))


def test_the_largest_number_of_a_tensor_is_read(tmp_path):
    """uint64 goes further than times do."""
    trace = tracecall.trace(nn.Identity(), torch.tensor([2**64 - 1], dtype=torch.uint64))
    trace.save(tmp_path / "trace.json")
    assert tracecall.load(tmp_path / "trace.json") == trace


def test_of_two_keys_the_last_counts(tmp_path):
    """As in every reader of JSON: nothing is read as one thing and checked as another."""
    twice = changed()[:-1] + b',"format_version": 7}'
    (tmp_path / "trace.json").write_bytes(twice)
    assert "format version 7" in refusal(tmp_path / "trace.json")


def test_a_file_larger_than_the_limit_is_refused(tmp_path):
    (tmp_path / "trace.json").write_bytes(changed())
    assert "more than 100 bytes of JSON" in refusal(tmp_path / "trace.json", largest=100)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path):
    """A gzip bomb is unpacked no further than the limit: 2 GB, here 10 MB of the 100."""
    pack = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join(pack.compress(b" " * 1_000_000) for _ in range(100)) + pack.flush()
    (tmp_path / "bomb.json.gz").write_bytes(bomb)
    assert "more than 10,000,000 bytes of JSON" in refusal(tmp_path / "bomb.json.gz", largest=10_000_000)


def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "no ordinary file" in refusal(tmp_path / "pipe")
    assert "cannot be read" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "missing.json")
    assert "no ordinary file" in refusal(Path("/dev/zero"))
    with pytest.raises(TracecallError, match="cannot be read"):
        tracefile.load("nul\0l")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_the_right_to_read_it_is_refused(tmp_path):
    (tmp_path / "trace.json").write_bytes(changed())
    (tmp_path / "trace.json").chmod(0)
    assert "Permission denied" in refusal(tmp_path / "trace.json")


def test_aliases_that_lead_to_each_other_end():
    """A damaged file may say that a is b.x and b is a.y."""
    trace = Trace(ModelInfo("M"), Environment("2.13.0", "3.11"))
    trace.modules = {path: ModuleInfo(path, "M", aliases=[alias]) for path, alias in (("b.x", "a"), ("a.y", "b"))}
    assert trace.find("a.q") == []


def test_a_file_with_any_bytes_changed_is_read_or_refused(tmp_path):
    """Whatever damage: a Trace that every view can show, or one line."""
    from tracecall.views.table import table
    from tracecall.views.tree import text

    noise = random.Random(0)
    whole = tracefile.encoded(recorded())
    read = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(noise.randint(1, 4)):
            at = noise.randrange(len(data))
            data[at : at + noise.randint(0, 2)] = noise.choice((b"-", b"9", b"99999999999", b"null", b"}", b'"', b"[]"))
        (tmp_path / "trace.json").write_bytes(data)
        try:
            trace = tracefile.load(tmp_path / "trace.json")
        except TracecallError:
            continue
        read += 1
        text(trace)
        table(trace)
    assert read  # not all of it was refused


def test_a_trace_is_plain_json():
    """As DESIGN promises: without tracecall's own reader too."""
    trace = recorded()
    assert msgspec.json.decode(tracefile.encoded(trace), type=Trace) == trace
