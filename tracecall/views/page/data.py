"""What the page's script reads: every line of the tree and every module, as JSON that is safe inside a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tracecall.calls import Trace
from tracecall.views import labels
from tracecall.views.columns import total_time
from tracecall.views.page.calls import Line
from tracecall.views.page.modules import modules


def data(trace: Trace, shown: list[Line]) -> dict[str, Any]:
    """What the script reads: every line of the tree and every module, with each text written once."""
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def numbers(rows: Iterable[tuple[str, ...]]) -> list[list[int]]:
        return [[number(text) for text in row] for row in rows]

    unit = labels.unit(total_time(trace))
    return {
        "unit": {"name": unit[0], "size": unit[1], "decimals": unit[2]},
        "calls": [
            [
                line.depth,
                *map(number, (line.kind, line.name, line.type, line.path, line.shapes)),
                *map(number, (line.place, line.near, line.text, line.mark)),
                *(_times(line) if line.call is not None else [None] * 4),
                int(line.hidden) + 2 * int(line.unsteady),
                _repeats(line),
                numbers(line.inputs),
                numbers(line.output),
                numbers(line.facts),
            ]
            for line in shown
        ],
        "modules": [
            [
                labels.safe(row.path or row.type),
                labels.safe(row.type),
                row.state,
                row.calls,
                row.host,
                row.own,
                row.device,
                row.flops,
                row.output,
                row.parameters,
                labels.safe(row.path),
            ]
            for row in modules(trace)
        ],
        "texts": list(texts),
        "failed": trace.failing() is not None,
    }


def as_json(value: object) -> str:
    """JSON that may stand in a <script>: no character of it can end the element or begin another."""
    text = msgspec.json.encode(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _times(line: Line) -> list[int | None]:
    call = line.call
    assert call is not None
    return [call.host_ns, call.host_self_ns, call.device_ns, call.device_self_ns]


def _repeats(line: Line) -> int:
    """How often what is inside a line took place, where its time is that of all repeats."""
    fold = line.call.fold if line.call is not None else None
    return 1 if fold is None or fold.inside or line.kind == "repeats" else fold.count
