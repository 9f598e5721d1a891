"""The picture of the terminal's tree: well-formed, the tree's own text, and nothing that is fetched."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tests.views.traces import cnn, module, trace
from tracecall.views.svg import svg
from tracecall.views.tree import text

NAMESPACE = "{http://www.w3.org/2000/svg}"


def written(picture: str) -> str:
    """All of a picture's text, in order, without the spaces that it is padded with."""
    root = ElementTree.fromstring(picture)
    return (
        "".join("".join(one.itertext()) for one in root.iter(f"{NAMESPACE}text")).replace("\xa0", "").replace(" ", "")
    )


def test_it_holds_what_the_terminal_shows():
    """Every line of the tree is in it."""
    drawn = written(svg(cnn(), width=100))
    for line in text(cnn(), width=100).splitlines():
        assert line.replace(" ", "") in drawn


def test_nothing_is_fetched_and_nothing_runs():
    """No address, no font that is loaded, no script, no handler."""
    picture = svg(cnn())
    addresses = re.findall(r"https?://[^\s\"'<>)]+", picture)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # the namespace: a name that is never asked for
    assert "@font-face" not in picture
    assert "@import" not in picture
    root = ElementTree.fromstring(picture)
    for one in root.iter():
        assert one.tag.removeprefix(NAMESPACE) in {"svg", "style", "defs", "clipPath", "rect", "g", "text", "circle"}
        assert not any(name.startswith("on") or "href" in name for name in one.attrib)
    inside = re.findall(r"url\(([^)]*)\)", picture)
    assert inside
    assert all(one.startswith("#tracecall-") for one in inside)


def test_the_same_trace_is_the_same_picture():
    """Ids are stable, so that a picture under version control changes only where the tree does."""
    assert svg(cnn()) == svg(cnn())


def test_hostile_names_are_text():
    """Tags, entities, quotes, braces and control characters are shown as they are."""
    name = "</text><script>alert(1)</script>{width}&amp;\x1b[31m"
    picture = svg(trace(module(name, name, (1,), (1,), path="")), width=120)
    assert "<script" not in picture
    assert "</text><script>alert(1)</script>{width}&amp;\\x1b[31m" in written(picture)


def test_the_width_is_columns():
    """A wider picture has more room on a line."""
    sizes = [float(ElementTree.fromstring(svg(cnn(), width=width)).attrib["viewBox"].split()[2]) for width in (80, 120)]
    assert sizes[0] < sizes[1]
