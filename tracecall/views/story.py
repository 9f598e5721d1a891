"""The page of `tracecall explain`: each step as a claim, what was observed, and the code that it is about."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from tracecall.calls import TensorSpec, Value
from tracecall.story import Evidence, Source, Step, Story
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET
from tracecall.views.lines import PROSE

if TYPE_CHECKING:
    from rich.syntax import SyntaxTheme

CODE = "cyan"
WHOLE = 40  # code of at most so many columns is not broken between two lines
INPUTS = 6
GAP = "  "
MARK = "▸ "
_GLUE = "\ue000"  # for a space that must not break; labels.safe leaves none of these in a text


def story(story: Story, *, width: int = 100) -> RenderableType:
    """Everything that `tracecall explain` prints, in lines of at most `width` columns."""
    return _Page(story, max(20, width))


def text(story: Story, *, width: int | None = None) -> str:
    """The same without colours, as `print(story)` shows it."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    out = io.StringIO()
    console = Console(
        file=out, width=max(20, width), color_system=None, force_terminal=False, force_jupyter=False, highlight=False
    )
    console.print(_Page(story, max(20, width)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


class _Page:
    """A story as lines. Only its console knows whether there are colours; without them, backticks set code apart."""

    def __init__(self, story: Story, width: int) -> None:
        self.story = story
        self.width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _Writer(console, self.width, ticks=console.color_system is None or console.no_color).page(self.story)


class _Writer:
    """Writes the parts of a page for one console: `width` columns, and backticks around code or not."""

    def __init__(self, console: Console, width: int, *, ticks: bool) -> None:
        self.console = console
        self.width = width
        self.prose = min(width, PROSE)
        self.ticks = ticks

    def page(self, story: Story) -> Iterator[Text]:
        """The header, the steps with a blank line between all parts, and what ended the story."""
        yield from self.header(story)
        indent = " " * (len(str(len(story.steps))) + len(GAP))
        for number, step in enumerate(story.steps, 1):
            yield Text()
            yield from self.step(str(number), step, indent)
        if story.error is not None:
            yield Text()
            first, *more = story.error.message.strip().split("\n")
            yield from self.wrapped(f"{story.error.type}: {first}", BAD, "✗ ", "  ", BAD, prose=False)
            for line in more[:3]:
                yield from self.wrapped(line, "", "  ", "  ", prose=False)
            if story.error.site is not None:
                line = f"{labels.place(story.error.site)}  {labels.safe(story.error.site.text or '')}"
                yield self.cropped(Text("  " + line, QUIET))

    def header(self, story: Story) -> Iterator[Text]:
        """The model, what it was called with, and what the reader must know."""
        line = Text(labels.safe(story.model.name), MODULE, overflow="fold")
        line = Text().append_text(line)
        origin = labels.safe(story.model.origin or "")
        if origin and line.cell_len + 3 + cell_len(origin) > self.width:
            yield line
            line = Text("  ")
        yield line.append(("   " if line.plain.strip() else "") + origin if origin else "", QUIET)
        for value in story.inputs[:INPUTS]:
            yield from self.wrapped(_input(value), "", "", "  ", prose=False)
        if len(story.inputs) > INPUTS:
            yield Text(f"and {len(story.inputs) - INPUTS} more", QUIET)
        for note in story.notes:
            yield from self.wrapped(note, NOTE)

    def step(self, number: str, step: Step, indent: str) -> Iterator[Text]:
        """One step: its title beside its number, everything else indented below."""
        yield from self.wrapped(step.title, MODULE, number.rjust(len(indent) - len(GAP)) + GAP, indent, MODULE)
        if step.claim:
            yield Text()
            yield from self.wrapped(step.claim, "", indent)
        if step.evidence:
            yield Text()
            yield Text(indent + "observed", QUIET)
            yield from self.evidence(step.evidence, indent + GAP)
        for source in step.source:
            yield Text()
            yield from self.source(source, indent)

    def evidence(self, found: list[Evidence], indent: str) -> Iterator[Text]:
        """What was looked at and, in a column of its own, what was seen; what is long or a list stands below."""
        room = self.prose - len(indent) - len(GAP)
        pairs = [(one.looked_at, _in_words(one.seen)) for one in found]
        brief = [
            (self.spans(looked_at, "").cell_len, self.spans(seen, "").cell_len)
            for looked_at, seen in pairs
            if isinstance(seen, str) and self.spans(seen, "").cell_len <= room // 3
        ]
        left = min(max((left for left, _ in brief), default=0), room - max((right for _, right in brief), default=0))
        for looked_at, seen in pairs:
            if isinstance(seen, list):
                yield from self.wrapped(looked_at, "", indent)
                for line in seen:
                    yield self.cropped(Text(indent + GAP).append_text(self.spans(line, "", whole=False)))
                continue
            one, other = self.lines(looked_at, "", left or room), self.lines(seen, MODULE, room)
            if max(left, one[0].cell_len) + other[0].cell_len > room or len(other) > 1:
                yield from self.wrapped(looked_at, "", indent)
                yield from self.wrapped(seen, MODULE, indent + GAP)
                continue
            one[0].pad_right(max(0, left - one[0].cell_len) + len(GAP))
            one[0].append_text(other[0])
            yield from (Text(indent).append_text(line) for line in one)

    def source(self, source: Source, indent: str) -> Iterator[Text]:
        """Where it stands, and its lines with their numbers; the marked ones stand out without colours too."""
        where = f"{labels.safe(source.file)}:{source.marked[0] if source.marked else source.line}"
        yield self.cropped(Text(indent + where, QUIET))
        # a page break or an escape sequence in a file must not reach the terminal; a line's end must
        code = [labels.safe(line.rstrip("\r").expandtabs(4)) for line in source.text.rstrip("\n").split("\n")]
        digits = len(str(source.line + len(code) - 1))
        for number, line in enumerate(_highlighted(code), source.line):
            marked = number in source.marked
            drawn = Text(indent)
            drawn.append(MARK if marked else " " * len(MARK), MODULE)
            drawn.append(f"{number:>{digits}}", MODULE if marked else QUIET).append(GAP).append_text(line)
            yield self.cropped(drawn)

    def wrapped(
        self,
        words: str,
        style: str,
        first: str = "",
        other: str | None = None,
        mark: str = MODULE,
        *,
        prose: bool = True,
    ) -> Iterator[Text]:
        """A paragraph: `first` before its first line, `other` (by default the same) before the rest."""
        other = first if other is None else other
        width = self.prose if prose else self.width
        for i, line in enumerate(self.lines(words, style, width - len(first))):
            yield Text("", no_wrap=True).append(other if i else first, mark).append_text(line)

    def lines(self, words: str, style: str, width: int) -> list[Text]:
        """A text in lines of at most `width` columns; a word longer than that is broken."""
        lines = self.spans(" ".join(words.split()), style).wrap(self.console, max(1, width), overflow="fold")
        for line in lines:
            line.rstrip()
            line.plain = line.plain.replace(_GLUE, " ")
        return list(lines)

    def spans(self, words: str, style: str, *, whole: bool = True) -> Text:
        """A text whose code is styled; `whole` keeps short code together, for a text that is to be wrapped."""
        found = Text("", end="")
        for part in re.split(r"(`[^`]+`)", labels.safe(words)):
            if len(part) < 3 or not part.startswith("`"):
                found.append(part, style)
                continue
            code = part if self.ticks else part[1:-1]
            if whole and cell_len(code) <= WHOLE:
                code = code.replace(" ", _GLUE)
            found.append(code, f"{style} {CODE}".strip())
        return found

    def cropped(self, line: Text) -> Text:
        """A line that must not wrap: it ends in … where it is too long."""
        line.rstrip()
        line.truncate(self.width, overflow="ellipsis")
        return line


def _input(value: Value) -> str:
    what = labels.tensor(value.value) if isinstance(value.value, TensorSpec) else value.value
    return f"{value.where}: {what}" if value.where else what


def _in_words(seen: bool | int | float | str | list[str]) -> str | list[str]:
    if isinstance(seen, bool):
        return "yes" if seen else "no"
    if isinstance(seen, list):
        return seen or "none"
    return seen if isinstance(seen, str) else labels.number(seen)


def _highlighted(code: list[str]) -> list[Text]:
    """Lines of Python in colours. pygments is imported by the first page with code: nothing else needs it."""
    from rich.syntax import Syntax

    highlighted = Syntax("", "python", theme=_theme()).highlight("\n".join(code)).split("\n", allow_blank=True)
    return [Text("", end="").append_text(line) for line in highlighted[: len(code)]]


def _theme() -> SyntaxTheme:
    """Few colours, the terminal's own, which are readable whether it is dark or light."""
    from rich.style import Style
    from rich.syntax import ANSISyntaxTheme

    colours = {
        ("Comment",): Style(dim=True),
        ("Keyword",): Style(color="magenta"),
        ("Operator", "Word"): Style(color="magenta"),
        ("Name", "Decorator"): Style(color="yellow"),
        ("Literal", "Number"): Style(color="cyan"),
        ("Literal", "String"): Style(color="green"),
    }
    return ANSISyntaxTheme(colours)  # pygments' names of tokens are such tuples
