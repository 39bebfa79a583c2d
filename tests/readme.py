"""The examples of the README, for the tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block of code as it is printed.

    Attributes
    ----------
    language : str
        What follows the fence.
    line : int
        Where the block begins.
    text : str
        The code.
    """

    language: str
    line: int
    text: str

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Commands of a console, each with the output that is printed below it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]

    @property
    def commands(self) -> list[str]:
        """Commands of a console."""
        return [command for command, _ in self.steps]


def examples(language: str | None = None) -> list[Example]:
    """Read all blocks of the README, or those of one language."""
    text = README.read_text()
    found = [
        Example(match[1], text.count("\n", 0, match.start()) + 1, match[2]) for match in _FENCE.finditer(text)
    ]
    assert text.count("\n```") == 2 * len(found), "a block of the README has no language"
    return [example for example in found if language in {None, example.language}]


def example(start: str) -> Example:
    """Find the one block that holds a line which starts like this."""
    line = re.compile(rf"^(\$ )?{re.escape(start)}", re.MULTILINE)
    (found,) = [block for block in examples() if line.search(block.text)]
    return found


def matches(expected: str, output: str) -> bool:
    """Whether an output is what is printed, up to figures, units, widths and what ``…`` leaves out."""
    pattern = ""
    for word in re.findall(r"\.\.\.|…|─+|\d+(?:\.\d+)?|\s+|[^\s\d.…─]+|.", expected.strip()):
        if word in {"...", "…"}:
            pattern += r"[\s\S]*" if word == "..." else r"\S*"
        elif word[0] == "─":
            pattern += "─+"
        elif word[0].isdecimal():
            pattern += r"\d+(?:\.\d+)?"
        elif word in {"KiB", "MiB", "GiB"}:
            pattern += "[KMG]iB"
        elif word.isspace():
            pattern += r"\s+"
        else:
            pattern += re.escape(word)
    return re.search(pattern, output) is not None
