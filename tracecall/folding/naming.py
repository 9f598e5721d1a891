"""What calls that share a line are called: the first and the last of those that count up, or each of a few."""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMED = 3  # names that are told where they make no range
_LONGEST = 200  # characters of a name with an index
_NUMBERS = re.compile(r"\d+")


def ends(names: Sequence[str]) -> tuple[str, str]:
    """The first and the last name, "layers.0" and "layers.31".

    Where those between are not what a reader would think ("layers.0" twice, then "layers.5"), all that there are, as
    one name: "layers.0, layers.5".
    """
    different = list(dict.fromkeys(names))
    if len(different) == 1 or (len(different) == len(names) and _counts(names)):
        return names[0], names[-1]
    told = ", ".join([*different[:NAMED], *(["…"] if len(different) > NAMED else [])])
    return told, told


def _counts(names: Sequence[str]) -> bool:
    """Whether the numbers in names count up or down; of several numbers in each, as the digits of one do."""
    if any(len(name) > _LONGEST for name in names):
        return False
    numbers = [tuple(map(int, _NUMBERS.findall(name))) for name in names]
    if len(set(map(len, numbers))) > 1:
        return False
    changing = [one for one in zip(*numbers, strict=True) if len(set(one)) > 1]
    if len(changing) == 1:
        steps = {after - before for before, after in zip(changing[0], changing[0][1:], strict=False)}
        return len(steps) == 1
    return numbers == sorted(numbers) or numbers == sorted(numbers, reverse=True)
