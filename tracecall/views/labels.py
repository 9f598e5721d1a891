"""Shapes, times, counts and names as short text. Names come from models: they are data, never markup or escapes."""

from __future__ import annotations

import functools
import re
from bisect import bisect_right

from tracecall.calls import Call, Hook, Site, TensorSpec, Trace, Value
from tracecall.views.cells import cell_len

_EIGHTHS = " ▏▎▍▌▋▊▉█"
LONGEST = 4000  # characters of one text; no line of a terminal has room for half of it
_JOINED = 16  # characters to a cell, most of them without width: more are no writing


def safe(text: str) -> str:
    r"""Text that a terminal prints as it is: control characters and escape sequences become visible, "\x1b"."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def bounded(text: str) -> str:
    """The text with its start and its end alone where it is so long that no line could show it, as `safe` shows it."""
    if len(text) <= LONGEST:
        return text if text.isprintable() else safe(text)
    return safe(f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}")


def shape(spec: TensorSpec, *, roomy: bool = True) -> str:
    """Sizes in brackets: "[1, 3, 28, 28]", or "[1,3,28,28]" where room is short; "[]" is a scalar."""
    return sizes(spec.shape)[0 if roomy else 1]


@functools.lru_cache(maxsize=1024)  # a long trace has the same few shapes again and again
def sizes(shape: tuple[int | str, ...]) -> tuple[str, str]:
    """The same as it is written with room, and where room is short."""
    texts = [str(size) for size in shape]
    return f"[{', '.join(texts)}]", f"[{','.join(texts)}]"


def tensor(spec: TensorSpec, *, roomy: bool = True) -> str:
    """A tensor with everything that sets it apart: "float32[1, 3]", "sparse_coo float32[4, 4]"."""
    parts = [spec.type, spec.layout, spec.dtype + shape(spec, roomy=roomy)]
    return bounded(" ".join(part for part in parts if part))


def tensors(values: list[Value]) -> list[TensorSpec]:
    """The tensors among some values."""
    return [value.value for value in values if isinstance(value.value, TensorSpec)]


def unit(total_ns: int) -> tuple[str, float, int]:
    """The unit for a table whose largest time is `total_ns`: its name, nanoseconds in one, decimals to print."""
    if total_ns < 1_000_000:
        return "µs", 1e3, 1
    if total_ns < 100_000_000:
        return "ms", 1e6, 3 if total_ns < 10_000_000 else 2
    return ("ms", 1e6, 1) if total_ns < 10_000_000_000 else ("s", 1e9, 2)


def duration(ns: int, of: int | None = None) -> str:
    """A time, "184.2 µs", in the unit that suits `of` (the largest time beside it)."""
    name, size, decimals = unit(ns if of is None else of)
    return f"{ns / size:.{decimals}f} {name}"


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar of at most `width` characters, to an eighth of a character."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")) or ("▏" if share > 0 else "")


def count(number: int) -> str:
    """A number with its thousands apart: "194,578"."""
    return f"{number:,}"


def brief(number: int) -> str:
    """Three digits of a number: 194,578 is "195K"."""
    if number < 1000:
        return str(number)
    value, suffix = float(f"{number:.3g}"), ""
    for larger in "KMBT":
        if value < 1000:
            break
        value, suffix = value / 1000, larger
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}{suffix}"


def short(number: float, of: str = "") -> str:
    """Two digits or three of a number, by thousands: "1.2 G", "31 M", "940"; `of` "B" makes it bytes, "3.1 MB"."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        digits = f"{number:.1f}" if prefix and number < 9.95 else f"{number:.0f}"
        if float(digits) < 1000:
            break
        number /= 1000
    return f"{digits} {prefix}{of}".rstrip()


def number(value: object) -> str:
    """One value of a prediction, in about six characters."""
    return f"{value:.4g}" if isinstance(value, float) else safe(str(value))


def named(call: Call) -> str:
    """The name of a call, or of those that it stands for: "layers.0 … layers.31 ×32", "×12 in turn"."""
    fold = call.fold
    if fold is None:
        return bounded(call.name)
    if fold.size > 1:
        return f"×{fold.count} in turn"
    first, last = bounded(fold.first), bounded(fold.last)
    name = first if fold.first == fold.last else f"{first} … {last}"
    if cell_len(name) > LONGEST_NAMES and fold.first != fold.last:
        name = "{}{} … {}".format(*apart(first, last))
    return name if fold.inside else f"{name} ×{fold.count}"


LONGEST_NAMES = 24  # cells for a first and a last name; beyond that what both share is told once


def apart(first: str, last: str) -> tuple[str, str, str]:
    """Two paths without what they share: "a.0.x" and "a.7.x" are "a.", "0" and "7.x"; only the last keeps the end."""
    if not _path(first) or not _path(last):
        return "", first, last
    ones, others = first.split("."), last.split(".")
    most = min(len(ones), len(others)) - 1
    start = next((i for i in range(most) if ones[i] != others[i]), most)
    most -= start
    end = next((i for i in range(most) if ones[-1 - i] != others[-1 - i]), most)
    head = "".join(part + "." for part in ones[:start])
    return head, ".".join(ones[start : len(ones) - end]), ".".join(others[start:])


_path = re.compile(r"[\w.]+").fullmatch  # an expression is taken apart nowhere


def each(call: Call, total: int) -> str:
    """What one of the calls took that a line stands for: "each 0.37 (0.35–0.41)".

    "" where it stands for itself, or where its own time is that of one.
    """
    spread = None if call.fold is None else call.fold.device or call.fold.host
    if spread is None or (call.fold is not None and call.fold.inside):
        return ""
    _, size, decimals = unit(total)
    middle, least, most = (f"{ns / size:.{decimals}f}" for ns in (spread.median_ns, spread.least_ns, spread.most_ns))
    return f"each {middle}" + (f" ({least}–{most})" if least != most else "")


def place(site: Site | None) -> str:
    """File and line: "models/cnn.py:24"."""
    return "" if site is None else safe(f"{site.file}:{site.line}")


def sources(call: Call) -> list[str]:
    """What the call's tensor inputs came from, each once, without the "input" and "parameter" of its own kind."""
    found = []
    for value in call.inputs:
        if value.source and isinstance(value.value, TensorSpec):
            found.append(bounded(value.source))
    return found if len(found) < 2 else list(dict.fromkeys(found))


def pad(cell: str, width: int) -> str:
    """Exactly `width` cells; what is too long ends in "…". It costs what is shown, however long the text is."""
    if len(cell) <= _JOINED * max(1, width):
        cells = cell_len(cell)
        if cells <= width:
            return cell + " " * (width - cells)
    cell = start(cell, width - 1)
    return cell + "…" + " " * (width - 1 - cell_len(cell))


def start(text: str, width: int) -> str:
    """As much of a text, from its first character on, as takes at most `width` cells."""
    text = text[: _JOINED * max(1, width)]
    if text.isascii() and text.isprintable():
        return text[: max(0, width)]
    # a longer start never takes fewer cells
    return text[: max(0, bisect_right(range(len(text) + 1), width, key=lambda end: cell_len(text[:end])) - 1)]


def parameters(trace: Trace) -> dict[str, int]:
    """Parameters of each module with those below it, each counted at its first path."""
    totals = {path: 0 if info.built_inside else info.parameters for path, info in trace.modules.items()}
    lengths = set(map(len, totals))
    for path in sorted(totals, key=len, reverse=True):  # each before the one around it
        if path and (own := totals[path]):
            at = path.rfind(".")
            # a path may have ten thousand names: its starts are made only where one of them can be a module
            while at > 0 and not (at in lengths and path[:at] in totals):
                at = path.rfind(".", 0, at)
            around = path[:at] if at > 0 else ""
            if around in totals:
                totals[around] += own
    return {path: total for path, total in totals.items() if total}


def is_torch(site: Site) -> bool:
    """Whether a line is torch's own."""
    return of_torch(site.file)


def of_torch(file: str) -> bool:
    """Whether a file is torch's own."""
    return file.replace("\\", "/").startswith("torch/")


def registered(hook: Hook) -> str:
    """How a hook was registered: "forward hook, always_call", "global forward pre-hook, with kwargs"."""
    parts = [f"global {hook.when}" if hook.scope == "global" else hook.when]
    if hook.with_kwargs:
        parts.append("with kwargs")
    if hook.always_call:
        parts.append("always_call")
    return ", ".join(parts)


def grouped(call: Call) -> str:
    """The aten operations under one expression: "aten.relu", "aten.addmm +1" with another, "aten.sin ×3"."""
    total = sum((call.operations or {}).values())
    if total <= 1:
        return bounded(call.type)
    return bounded(f"{call.type} ×{total}" if len(call.operations or {}) == 1 else f"{call.type} +{total - 1}")
