"""What is left out of a file, each kind with its count, its first line and an example."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = {
    "damaged": ("left out {} damaged epoch", "left out {} damaged epochs"),
    "empty": ("left out {} epoch without satellites", "left out {} epochs without satellites"),
    "repeated": ("{} epoch is there more than once", "{} epochs are there more than once"),
    "differing": (
        "left out {} value that differs from the first one of its epoch and signal",
        "left out {} values that differ from the first ones of their epochs and signals",
    ),
    "stray": ("passed over {} line that belongs to no epoch", "passed over {} lines that belong to no epoch"),
    "padding": ("passed over {} byte of zero at the end", "passed over {} bytes of zero at the end"),
    "blank": ("passed over {} blank line between records", "passed over {} blank lines between records"),
    "events": (
        "{} event has fewer records than it announces",
        "{} events have fewer records than they announce",
    ),
    "beyond": (
        "passed over {} record with text beyond its last observation code",
        "passed over {} records with text beyond their last observation code",
    ),
    "foreign": (
        "left out {} record of a satellite whose system this version of RINEX does not have",
        "left out {} records of satellites whose systems this version of RINEX does not have",
    ),
    "codes": (
        "left out {} value of an observation code that RINEX does not define for its system",
        "left out {} values of observation codes that RINEX does not define for their systems",
    ),
    "marker": (
        "the MARKER NAME changes {} time within the file",
        "the MARKER NAME changes {} times within the file",
    ),
}
"""Kinds, and how one and several of each are told."""


@dataclass
class FileNotes:
    """Counts by kind, told in the order of their first lines."""

    _found: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)

    def add(self, kind: str, line: int, detail: str = "", count: int = 1) -> None:
        """Count something that was left out.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        line : int
            Number of its line in the file, from 1. Of each kind the smallest is kept, with its detail.
        detail : str
            What is wrong, for the sentence; empty where the kind says everything.
        count : int
            How many there are.
        """
        known, first, first_detail = self._found.get(kind, (0, line, detail))
        if line < first:
            first, first_detail = line, detail
        self._found[kind] = (known + count, first, first_detail)

    def say(self, line: int, text: str) -> None:
        """Add a sentence, unless the same one is there already.

        Parameters
        ----------
        line : int
            Number of the line that it is about, from 1, which is added to it; 0 where there is none.
        text : str
            The sentence.
        """
        sentence = text + (f" (line {line})" if line else "")
        if sentence not in self._texts:
            self._texts.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """Describe everything that was noted.

        Returns
        -------
        tuple of str
            One sentence for each kind, in the order of their first lines, then those of `say`.
        """
        counted = []
        for kind, (count, line, detail) in sorted(
            self._found.items(), key=lambda found: (found[1][1], found[0])
        ):
            text = KINDS[kind][count > 1].format(f"{count:,}")
            where = f", at line {line}" if count == 1 else f", the first at line {line}"
            counted.append(text + where + (f": {detail}" if detail else ""))
        return (*counted, *self._texts)
