"""The examples of the README and of docs/, for the tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
README = TOP / "README.md"
DOCUMENTS = (README, *sorted((TOP / "docs").glob("*.md")))
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block of code as it is printed.

    Attributes
    ----------
    document : str
        Name of the file that it is in.
    language : str
        What follows the fence.
    line : int
        Where the block begins.
    text : str
        The code.
    """

    document: str
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
    """Read all blocks of the documents, or those of one language."""
    every = []
    for document in DOCUMENTS:
        text = document.read_text()
        found = [
            Example(document.name, match[1], text.count("\n", 0, match.start()) + 1, match[2])
            for match in _FENCE.finditer(text)
        ]
        assert text.count("\n```") == 2 * len(found), f"a block of {document.name} has no language"
        every += found
    return [example for example in every if language in {None, example.language}]


def example(start: str) -> Example:
    """Find the one block that holds a line which starts like this."""
    line = re.compile(rf"^(\$ )?{re.escape(start)}", re.MULTILINE)
    (found,) = [block for block in examples() if line.search(block.text)]
    return found


def matches(expected: str, output: str) -> bool:
    """Whether an output is what is printed, up to figures, units, widths and what ``…`` leaves out."""
    pattern = ""
    for word in re.findall(r"\s*\.\.\.\s*|…|─+|\d[\d,]*(?:\.\d+)?|\s+|[^\s\d.…─]+|.", expected.strip()):
        if word.strip() == "...":
            # With the space around it: a line of progress is printed only where there is time for it.
            pattern += r"[\s\S]*"
        elif word == "…":
            pattern += r"\S*"
        elif word[0] == "─":
            pattern += "─+"
        elif word[0].isdecimal():
            pattern += r"\d[\d,]*(?:\.\d+)?"
        elif word in {"KiB", "MiB", "GiB"}:
            pattern += "[KMG]iB"
        elif word.isspace():
            pattern += r"\s+"
        else:
            pattern += re.escape(word)
    return re.search(pattern, output) is not None
