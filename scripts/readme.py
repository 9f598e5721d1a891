"""The commands and examples of README.md, so that .ci/run and the tests run what readers read.

A code block is named by an HTML comment on the line above it: `<!-- demo -->`.
`python3 scripts/readme.py demo` prints that block.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"

_BLOCK = re.compile(
    r"^(?:<!-- (?P<name>[a-z-]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced code block. `name` is "" where no comment names it."""

    name: str
    language: str
    text: str


def blocks(readme: Path = README) -> list[Block]:
    """Every fenced code block, in the order of the page."""
    found = _BLOCK.finditer(readme.read_text(encoding="utf-8"))
    return [Block(match["name"] or "", match["language"], match["text"]) for match in found]


def named(name: str) -> str:
    """The text of the block called `name`; KeyError where the page has none, or two."""
    texts = [block.text for block in blocks() if block.name == name]
    if len(texts) != 1:
        raise KeyError(f"README.md has {len(texts)} blocks called {name!r}, not one")
    return texts[0]


if __name__ == "__main__":
    print(named(sys.argv[1]), end="")
