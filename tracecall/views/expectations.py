"""The diff of expected shapes: one line for each tensor that changed, modules that changed in the same way counted."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.expectations import CallShapes, Difference, changes
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET

ALIKE = 3  # modules shown of those that changed in the same way
GROUPS = 20  # ways to change that are shown
GAP = "  "
SHORTEST = 12
STYLES = {"changed": NOTE, "added": NOTE, "removed": BAD}

Detail = tuple[tuple[str, str], ...]  # what changed in one call: ("output", "[1, 16] → [1, 8]")


def differences_view(differences: list[Difference], width: int = 100) -> RenderableType:
    """How many modules are not as expected, and an aligned line for each tensor: where it stands, before → after."""
    if not differences:
        return Text("every module has the expected shapes", QUIET)
    groups: dict[tuple[str, Detail], list[Difference]] = {}
    for one in differences:
        # one input or all of several is the same way to change
        way = tuple((where.replace("puts", "put"), text) for where, text in _detail(one))
        groups.setdefault((one.kind, way), []).append(one)
    rows: list[tuple[str, str, str, str]] = []
    for (kind, _), alike in list(groups.items())[:GROUPS]:
        shown = alike if len(alike) <= ALIKE + 1 else alike[:ALIKE]
        for one in shown:
            for i, (where, text) in enumerate(_detail(one)):
                rows.append(("" if i else kind, "" if i else _name(one), where, text))
        if len(alike) > len(shown):
            rows.append(("", f"and {len(alike) - len(shown)} more in the same way", "", ""))
    lines = _aligned(rows, width)
    if len(groups) > GROUPS:
        rest = sum(len(alike) for alike in list(groups.values())[GROUPS:])
        lines.append(Text(f"and {rest} more", QUIET))
    return Group(Text(_summary(differences), MODULE, overflow="fold"), Text(), *lines)


def _summary(differences: list[Difference]) -> str:
    """How much is not as expected: "3 modules changed, 1 added": a module once, whichever of its calls it is."""
    counts = {kind: len({one.path for one in differences if one.kind == kind}) for kind in STYLES}
    parts = [f"{count} {kind}" for kind, count in counts.items() if count]
    number, _, rest = parts[0].partition(" ")
    parts[0] = f"{number} module{'' if number == '1' else 's'} {rest}"
    return "not as expected: " + ", ".join(parts)


def _name(one: Difference) -> str:
    return labels.safe(one.path or "the model") + (f" #{one.call}" if one.call is not None else "")


def _detail(one: Difference) -> Detail:
    """What changed in a call; places that changed in the same way are one line: "inputs, output"."""
    if one.before is not None and one.after is not None:
        sides = (("input", one.before.inputs, one.after.inputs), ("output", one.before.output, one.after.output))
        places: dict[str, list[str]] = {}
        for side, before, after in sides:
            ways: dict[str, list[str]] = {}
            for where, old, new in changes(before, after):
                ways.setdefault(_change(old, new), []).append(where)
            for text, wheres in ways.items():
                places.setdefault(text, []).append(_place(side, wheres, max(len(before), len(after))))
        return tuple((", ".join(found), text) for text, found in places.items())
    shapes = one.after or one.before
    assert shapes is not None
    return (("input → output", _whole(shapes)),)


def _place(side: str, wheres: list[str], of: int) -> str:
    """Some tensors of a side that has `of` of them: "input", "inputs" for all, "input mask", "output[0]"."""
    if len(wheres) == of or wheres == [""]:
        return side if of == 1 else f"{side}s"
    return labels.safe(f"input {', '.join(wheres)}" if side == "input" else ", ".join(f"output{one}" for one in wheres))


def _change(old: str | None, new: str | None) -> str:
    """Two texts of tensors; dtypes are said where they changed, or where one of the tensors is missing."""
    if old is not None and new is not None and _dtypes(old) == _dtypes(new) and len(_dtypes(old)) == 1:
        old, new = _sizes(old), _sizes(new)
    return labels.safe(f"{old or 'none'} → {new or 'none'}")


def _dtypes(text: str) -> set[str]:
    return {part.rpartition("]")[2].strip(", ") for part in text.split("[")[:-1]}


def _sizes(text: str) -> str:
    """Without dtypes: "float32[2], float32[3]" is "[2], [3]"."""
    return ", ".join("[" + part.partition("]")[0] + "]" for part in text.split("[")[1:])


def _whole(shapes: CallShapes) -> str:
    sides = (", ".join(_sizes(text) for text in side.values()) or "none" for side in (shapes.inputs, shapes.output))
    return labels.safe(" → ".join(sides))


def _aligned(rows: list[tuple[str, str, str, str]], width: int) -> list[Text]:
    """Rows as lines; a long path loses its beginning, where only parents stand, and a long change is cut last."""
    kind, name, where, change = (
        max((cell_len(row[column]) for row in rows if row[2] or column == 0), default=0) for column in range(4)
    )
    over = kind + name + where + change + 3 * len(GAP) - width
    if over > 0:
        name = max(min(name, SHORTEST), name - over)
    lines = []
    for row in rows:
        path = row[1] if cell_len(row[1]) <= name or not row[2] else "…" + row[1][len(row[1]) - name + 1 :]
        line = Text(labels.pad(row[0], kind) + GAP, STYLES.get(row[0], ""), no_wrap=True, overflow="ellipsis")
        if row[2]:
            line.append(labels.pad(path, name) + GAP, MODULE)
            line.append(labels.pad(row[2], where) + GAP, QUIET)
            line.append(row[3])
        else:
            line.append(path, QUIET)
        line.rstrip()
        lines.append(line)
    return lines
