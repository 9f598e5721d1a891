"""A Trace as HTML: a page that is one file and asks nothing of the network, and a fragment for notebooks."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracecall.calls import Trace
from tracecall.errors import TracecallError
from tracecall.folding import folded
from tracecall.views.columns import UNSTEADY, total_time
from tracecall.views.page.calls import lines
from tracecall.views.page.data import as_json, data
from tracecall.views.page.plain import plain
from tracecall.views.page.words import prediction, said, settings

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_HERE = Path(__file__).parent / "page"
# In this order they are one script; each is read from top to bottom.
_SCRIPTS = ("data.js", "tree.js", "details.js", "chart.js", "search.js", "modules.js", "page.js")


def page(trace: Trace) -> str:
    """The whole report of a Trace, with every call of it. Names in it are data: none of them is markup or runs."""
    style, script = _file("page.css"), "(() => {\n" + "\n".join(map(_file, _SCRIPTS)) + "})();\n"
    shown = list(lines(trace, folded(trace)))
    return _rendered(
        "page.html.j2",
        **said(trace),
        policy=_policy(style, script),
        style=_markup(style),
        script=_markup(script),
        data=_markup(as_json(data(trace, shown))),
        plain=plain(trace, shown),
        prediction=prediction(trace),
        settings=list(settings(trace)),
        measured=total_time(trace) > 0,
        unsteady=UNSTEADY if any(line.unsteady for line in shown) else "",
    )


def fragment(trace: Trace) -> str:
    """The tree, repeats folded, and what stands around it, for a notebook's cell: no script, its styles its own."""
    trace = folded(trace)
    return _rendered(
        "fragment.html.j2", **said(trace), **plain(trace, list(lines(trace))), style=_markup(_file("fragment.css"))
    )


def _policy(style: str, script: str) -> str:
    """Only this page's own style and script, by their hashes, and nothing from anywhere."""

    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; style-src {hashed(style)}; script-src {hashed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@functools.cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader
    except ImportError as error:  # torch brings it: only `tracecall show` can be without
        raise TracecallError("HTML needs jinja2, which is not installed; type: pip install jinja2") from error
    return Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, auto_reload=False)


def _markup(text: str) -> Markup:
    """Text of this package's own files, or JSON without markup: it is not escaped."""
    _environment()
    from markupsafe import Markup

    return Markup(text)
