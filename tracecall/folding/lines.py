"""Calls → calls: repeats in one line each, from the roots down.

Which siblings repeat is known from signatures; those are merged first, and what is inside a merged call is folded
then. So every call is merged a bounded number of times, however deep it is, and the cost grows with their number.

The levels of a recursion are no siblings, and stay: each holds the time of those inside it, so that neither the time
of all nor that of one would be true. `depth` closes them.
"""

from __future__ import annotations

import msgspec

from tracecall.calls import Call, Fold, Site, TensorSpec, Trace
from tracecall.folding.merging import merged, spread, totals
from tracecall.folding.naming import ends
from tracecall.folding.repeats import FEWEST, Item, begins, may_repeat, repeats
from tracecall.folding.signatures import Signatures
from tracecall.medians import known, median, total

WRITTEN_OUT = 6  # repeats that are no loop, each on a line of code of its own
SAVED = 4  # lines that a group must spare: it adds one, and hides what runs in which order
FAR, RATIO, SHARE = 3, 1.5, 0.01  # interquartile ranges; times the median, or its part; of the time of all
MANY = 8  # if more than one in so many is far off, that is how they are, and the range shows it
FEW = 3  # so many at most, of however many: each that stands alone parts the others into two lines


def in_lines(trace: Trace) -> list[Call]:
    """The calls of a Trace with repeats folded; the given ones are not changed."""
    return _Folding(trace).folded(trace.calls)


class _Folding:
    """What folding needs to know of all calls: their signatures, and the time of the whole."""

    def __init__(self, trace: Trace) -> None:
        self.signs = Signatures(trace)
        self._modules = trace.modules
        self.whole = sum(_time(call) or 0 for call in trace.calls)

    def folded(self, calls: list[Call]) -> list[Call]:
        roots, waiting = self._siblings(calls)
        while waiting:
            call = waiting.pop()
            call.children, copies = self._siblings(call.children)
            waiting.extend(copies)
        return roots

    def _changes(self, calls: list[Call]) -> bool:
        """Whether these or what is inside them may be folded: where neither is, they stay the same objects."""
        return any(call.children for call in calls) or _may_repeat(calls)

    def _siblings(self, calls: list[Call]) -> tuple[list[Call], list[Call]]:
        """Siblings with repeats folded, but not yet what is inside them, and those where that may be folded: copies."""
        found = self._repeated(calls) if _may_repeat(calls) else calls
        copies: list[Call] = []
        siblings: list[Call] = []
        for call in found:
            if call.children and self._changes(call.children):
                call = msgspec.structs.replace(call)
                copies.append(call)
            siblings.append(call)
        return siblings, copies

    def _repeated(self, calls: list[Call]) -> list[Call]:
        """Siblings with repeats folded."""
        signs = self.signs
        signs.add(calls)
        items = []
        for i, call in enumerate(calls):
            if call.fold is not None or call.hook is not None:
                items.append(Item(i, signs.alone(), signs.alone()))
            else:
                leads = begins(_line_of(calls[i - 1].site) if i else None, _line_of(call.site), call.kind == "module")
                items.append(Item(i, signs.exact[id(call)], signs.loose[id(call)], leads))

        def worth(start: int, width: int, count: int) -> bool:
            if count < _fewest(calls, start, width):
                return False
            return width == 1 or (count - 1) * _count(calls[start : start + width]) - 1 >= SAVED

        planned = repeats(items, worth, signs.number)
        return [line for item in planned for line in self._lines(item, calls, 0)]

    def _lines(self, item: Item, calls: list[Call], shift: int) -> list[Call]:
        """An item as calls. `calls[shift]` is the sibling that it counts from.

        It calls itself for runs within runs; each of them is a third as long at most, so that is never deep.
        """
        start = item.start + shift
        if item.count == 1:
            return [calls[start]]
        found: list[Call] = []
        each = [calls[start + i * item.width : start + (i + 1) * item.width] for i in range(item.count)]
        for first, end in self._alike(each, item.sized):
            if end - first >= _fewest(calls, start + first * item.width, item.width):
                found.append(self._line(item, each[first:end]))
            else:
                for i in range(first, end):
                    found += [line for one in item.body for line in self._lines(one, calls, shift + i * item.width)]
        return found

    def _line(self, item: Item, each: list[list[Call]]) -> Call:
        """One line for repeats that are alike."""
        one = merged(each, self._made, sized=item.sized)
        if len(item.body) == 1 and item.width == 1:
            return _folded(one[0], [repeat[0] for repeat in each])
        members: list[Call] = []
        for part in item.body:
            at = part.start - item.start
            if part.count == 1:
                members.append(_folded(one[at], [repeat[at] for repeat in each], inside=True))
            else:
                members += self._lines(part, one, -item.start)
        return _group(members, each)

    def _made(self, path: str) -> str:
        info = self._modules.get(path)
        return "" if info is None else info.extra_repr

    def _alike(self, each: list[list[Call]], sized: bool) -> list[tuple[int, int]]:
        """From where to where repeats may share a line: those whose sizes change evenly, none far off in time."""
        parts = _even([_sizes(repeat) for repeat in each]) if sized else [(0, len(each))]
        found: list[tuple[int, int]] = []
        for first, end in parts:
            begin = first
            for off in self._far(each[first:end]):
                found += [(begin, first + off)] if first + off > begin else []
                found.append((first + off, first + off + 1))
                begin = first + off + 1
            found += [(begin, end)] if end > begin else []
        return found

    def _far(self, each: list[list[Call]]) -> list[int]:
        """Which repeats took far longer, or less, than the others: by more than their own times vary.

        Where those are many, only the ones that are far off even among them.
        """
        times = known([total([_time(call) for call in repeat]) for repeat in each])
        if times is None:
            return []
        middle = median(times)
        away = [abs(time - middle) for time in times]
        far = FAR * _quartiles(times)
        found = []
        for i, time in enumerate(times):
            varies = sum(_varies(call) for call in each[i])
            ratio = time >= RATIO * middle or time * RATIO <= middle
            if ratio and away[i] > far and away[i] > varies and away[i] >= SHARE * self.whole:
                found.append(i)
        while len(found) > max(1, min(FEW, len(each) // MANY)):
            usual = [away[i] for i in found]
            least = max(RATIO * median(usual), median(usual) + FAR * _quartiles(usual))
            found = [i for i in found if away[i] > least]
        return found


def _may_repeat(calls: list[Call]) -> bool:
    """Whether siblings repeat as far as they show from outside; most are few, and all different."""
    if len({call.type for call in calls}) > len(calls) - (FEWEST - 1):
        return False
    # the first call inside tells most of those apart that take and give the same
    outside = [(call.type, *_shapes([call, *call.children[:1]])) for call in calls]
    return may_repeat(outside) or may_repeat([(call.path, call.name) for call in calls])  # these in other sizes


def _shapes(calls: list[Call]) -> list[tuple[int | str, ...]]:
    return [
        value.value.shape
        for call in calls
        for value in (*call.inputs, *call.output)
        if isinstance(value.value, TensorSpec)
    ]


def _count(calls: list[Call]) -> int:
    """How many calls these are, with all inside them."""
    found = 0
    while calls:  # a level at a time
        found += len(calls)
        calls = [child for call in calls if call.children for child in call.children]
    return found


def _fewest(calls: list[Call], start: int, width: int) -> int:
    """How many repeats are worth a line: fewer where one line of code makes them all."""
    first, second = calls[start], calls[min(start + width, len(calls) - 1)]
    return FEWEST if _line_of(first.site) == _line_of(second.site) else WRITTEN_OUT


def _line_of(site: Site | None) -> tuple[str, int] | None:
    return None if site is None else (site.file, site.line)


def _time(call: Call) -> int | None:
    return call.host_ns if call.device_ns is None else call.device_ns


def _varies(call: Call) -> int:
    return (call.spread_ns if call.device_ns is None else call.device_spread_ns) or 0


def _quartiles(times: list[int]) -> int:
    """The interquartile range."""
    ordered = sorted(times)
    return ordered[3 * len(times) // 4] - ordered[len(times) // 4]


def _sizes(calls: list[Call]) -> list[int]:
    return [size for shape in _shapes(calls) for size in shape if isinstance(size, int)]


def _even(sizes: list[list[int]]) -> list[tuple[int, int]]:
    """From where to where sizes change by the same each time, as those of a text that grows by one token."""
    changes = [
        tuple(after - before for before, after in zip(sizes[i], sizes[i + 1], strict=True))
        for i in range(len(sizes) - 1)
    ]
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(sizes):
        end = first + 1
        while end < len(sizes) and changes[end - 1] == changes[first]:
            end += 1
        if end - first < FEWEST:  # one that differs from what follows belongs to neither
            end = first + 1
        found.append((first, end))
        first = end
    return found


def _folded(call: Call, each: list[Call], *, inside: bool = False) -> Call:
    """A merged call as the line of those that it stands for."""
    paths = list(dict.fromkeys(one.path for one in each if one.kind == "module"))
    fold = Fold(
        len(each),
        *ends([one.name for one in each]),
        paths,
        spread([one.host_ns for one in each]),
        spread([one.device_ns for one in each]),
        inside=inside,
    )
    return msgspec.structs.replace(call if inside else totals(call, each), fold=fold)


def _group(members: list[Call], each: list[list[Call]]) -> Call:
    """The line over calls that repeat in turn."""
    first = each[0][0]
    hosts = [total([call.host_ns for call in repeat]) for repeat in each]
    devices = [total([call.device_ns for call in repeat]) for repeat in each]
    host, device = spread(hosts), spread(devices)
    paths = dict.fromkeys(call.path for repeat in each for call in repeat if call.kind == "module")
    return Call(
        "operation",
        first.path if first.kind != "module" else first.path.rpartition(".")[0],
        ", ".join(call.name for call in each[0][:3]) + (", …" if len(each[0]) > 3 else ""),
        "",
        host_ns=host.total_ns if host else None,
        device_ns=device.total_ns if device else None,
        spread_ns=total([call.spread_ns for repeat in each for call in repeat]),
        children=members,
        internal=all(member.internal for member in members),
        fold=Fold(len(each), each[0][0].name, each[-1][-1].name, list(paths), host, device, len(each[0])),
    )
