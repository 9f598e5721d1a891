"""In what settings modules differ that share a line: those of their `extra_repr` whose numbers are not the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 1000  # characters of settings that are told apart; longer ones are no list of arguments
TOLD = 3  # arguments that are named
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_BETWEEN = re.compile(r",\s*(?![^()]*\))")  # a comma, but those of a tuple


def unnumbered(settings: str) -> str:
    """Settings without their numbers: the same for modules that may share a line."""
    return _NUMBER.sub("0", settings) if len(settings) <= LONGEST else settings


def differences(each: Sequence[str]) -> str | None:
    """What differs in several modules' settings, "eps=1e-05…0.01, p=0.0…0.3"; None where nothing does."""
    different = list(dict.fromkeys(each))
    if len(different) < 2:
        return None
    arguments = zip(*(_BETWEEN.split(one) for one in different), strict=False)
    told = [_told(list(dict.fromkeys(values))) for values in arguments if len(set(values)) > 1]
    return ", ".join(told[:TOLD]) + (", …" if len(told) > TOLD else "")


def _told(values: list[str]) -> str:
    """One argument's values: the smallest and the largest number; of others the first and the last, in their order."""
    name, equals, _ = values[0].partition("=")
    shown = [value.partition("=")[2] if equals else value for value in values]
    if all(map(_NUMBER.fullmatch, shown)):
        shown.sort(key=float)
    return f"{name if equals else ''}{equals}{shown[0]}…{shown[-1]}"
