"""The closing lines of `tracecall diff`: how many calls changed, what is not shown, what all times share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.text import Text

from tracecall.comparison import ADDED, CHANGED, FEWEST, MARGIN, REMOVED, Difference, Drift, Pair
from tracecall.views import labels
from tracecall.views.header import NOTE, QUIET
from tracecall.views.pairs import calls, seen
from tracecall.views.prose import prose
from tracecall.views.ratios import how

MOST_FINDINGS = 6  # of each trace
BOTH = ("before", "after")  # as the columns of times are called too


def summary(difference: Difference, width: int, *, hidden: list[str], alike: str, tree: list[Text]) -> Iterator[Text]:
    """How many calls changed, what of them the tree does not show, and how many are slower or faster."""
    pairs = [pair for _, pair in difference.walk()]
    same = calls(sum(not pair.sign for pair in pairs))
    if difference.changed:
        said = f"{', '.join([*counted(pairs), *hidden]) or 'no call changed'}, {same} as before"
    else:
        said = f"nothing changed: {same} with the same types, shapes, dtypes, devices and parameters"
    ratios = [pair.time for pair in pairs if pair.time is not None]
    verdicts, timed = Counter(one.verdict for one in ratios if one.verdict), bool(ratios)
    if verdicts:
        said += "; " + ", ".join(f"{verdicts[one]:,} {one}" for one in ("slower", "faster") if verdicts[one])
    elif timed and any(one.clock in difference.bounds.blind for one in ratios):
        said += "; no call is as it was that takes long enough to tell a slower machine from a slower model"
    elif any(one.noisy or one.low is not None or one.high is not None for one in ratios):
        said += "; no time differs beyond noise"
    elif timed:
        said += f"; too few runs to tell a time from noise: {FEWEST} of each are needed"
    yield from prose(said, width, "")
    for drift in difference.bounds.drifts:
        if 1 / MARGIN <= drift.ratio <= MARGIN:
            continue
        yield from prose(_shared(drift), width, NOTE)
    yield from _findings(difference, width)
    yield from prose(alike, width, QUIET)
    if timed:
        yield from prose(how("the time after", "that before", tree, difference.bounds), width, QUIET)


def _shared(drift: Drift) -> str:
    """What the times of all calls share, which is said once."""
    where = " on the device" if drift.clock == "device" else ""
    low, high = f"{drift.low:.2f}", f"{drift.high:.2f}"
    most = f", most {low} to {high}" if low != high else ""
    return (
        f"what did not change took {drift.ratio:.2f} times as long{where} ({calls(drift.calls)}{most}): another state "
        "of the machine, its threads or torch; slower and faster are beside that"
    )


def _findings(difference: Difference, width: int) -> Iterator[Text]:
    """What was found in one of the runs and not in the other."""
    for which, findings in zip(BOTH, difference.findings, strict=True):
        for finding in findings[:MOST_FINDINGS]:
            yield from prose(f"only {which}: {labels.safe(finding.message)}", width, NOTE)
        if len(findings) > MOST_FINDINGS:
            yield from prose(f"only {which}: {len(findings) - MOST_FINDINGS:,} findings more", width, NOTE)


def hidden(
    difference: Difference, shown: Difference, everything: bool, depth: int | None, operations: str
) -> list[str]:
    """What of the changes the tree does not show, and what to type for it; depth and part are one's own choice."""
    left_out = deep = there = 0
    inside = False  # any of them in a call that came or went as a whole, which only --all opens
    above: list[Pair] = []
    for level, pair in shown.walk():
        del above[level:]
        if pair.sign:
            there += 1
            new = any(one.sign in (ADDED, REMOVED) for one in above[: None if depth is None else depth + 1])
            if depth is not None and level > depth:
                deep += not (new and seen(pair, operations))  # or counted in the line of what it came with
            elif not seen(pair, operations):
                left_out += 1
                inside = inside or new
        above.append(pair)
    found = []
    if left_out:
        typed = "--ops forward --all" if inside and not everything else "--ops forward"
        verb = "is an operation" if left_out == 1 else "are operations"
        found.append(
            f"{left_out:,} of them {verb} that the tree leaves out ({typed} shows {'it' if left_out == 1 else 'them'})"
        )
    if deep:
        found.append(f"{deep:,} of them deeper than --depth {depth}")
    elsewhere = sum(bool(pair.sign) for _, pair in difference.walk()) - there if shown is not difference else 0
    return [*found, f"{elsewhere:,} of them not in this part of the tree"] if elsewhere else found


def counted(pairs: Iterable[Pair]) -> list[str]:
    """How many of these came, went or changed: "1 added", "2 changed"."""
    counts = Counter(pair.sign for pair in pairs)
    words = {ADDED: "added", REMOVED: "removed", CHANGED: "changed"}
    return [f"{counts[sign]:,} {word}" for sign, word in words.items() if counts[sign]]
