"""A picture of the terminal's tree as one SVG that asks for nothing: no font from the network, no script."""

from __future__ import annotations

import io
import re

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from tracecall.calls import Trace
from tracecall.views.labels import safe
from tracecall.views.tree import tree

_FONTS = '"Fira Code", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace'
# rich's own, without the rules that load Fira Code from a CDN: lines are fitted to their width in any font
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "font-family: Fira Code, monospace", f"font-family: {_FONTS}"
)
_NAMES_ITS_MAKER = re.compile(r"\s*<!--.*?-->")  # a comment with an address that a reader might take for a request


def svg(trace: Trace, *, width: int = 100) -> str:
    """Return what the terminal shows at `width` columns; the same trace gives the same picture."""
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        force_jupyter=False,  # in a notebook rich would show it at once
        highlight=False,
    )
    console.print(tree(trace, width=width))
    drawn = console.export_svg(title=safe(trace.model.name), code_format=_FORMAT, unique_id="tracecall")
    return _NAMES_ITS_MAKER.sub("", drawn, count=1)
