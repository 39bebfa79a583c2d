"""What is wrong with settings, in words that name place, field, value, what is allowed and what to do."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from canvod.launch.config.catalogue import choices_of, nearest, rule_of, sections
from canvod.launch.config.redact import shown, without_password
from canvod.launch.config.settings import DEFAULT, Origin, Provenance
from canvod.launch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_LONGEST = 200

_REASONS = {
    "greater_than_equal": "is below {ge}",
    "greater_than": "is not above {gt}",
    "less_than_equal": "is above {le}",
    "int": "is not a whole number",
    "float": "is not a number",
    "finite_number": "is not a finite number",
    "bool": "is neither true nor false",
    "literal_error": "is none of the allowed words",
    "string_type": "is not text",
    "string_pattern_mismatch": "does not have the form that is needed",
    "string_too_short": "is empty",
    "path_type": "is not a path",
    "tuple_type": "is not a list",
    "dict_type": "is not a mapping of names to values",
    "model_type": "is not a section: no fields are indented below it",
    "too_short": "is an empty list",
}
"""Words for pydantic's types of errors, or for their first part; the placeholders are the errors' context."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    reason : str
        What is wrong; completes the sentence that begins with the field and its value.
    remedy : str
        What to do.
    field : str, optional
        Dotted field, or None where the problem is not one field's.
    given : str, optional
        The value as it was given; secrets hidden.
    allowed : str, optional
        What is allowed.
    origin : Origin
        Where it was given.
    """

    reason: str
    remedy: str
    field: str | None = None
    given: str | None = None
    allowed: str | None = None
    origin: Origin = DEFAULT

    def __str__(self) -> str:
        value = "" if self.given is None else f" = {textwrap.shorten(self.given, _LONGEST, placeholder=' …')}"
        subject = "" if self.field is None else f"{self.field}{value} "
        lines = [f"{self.origin.prefix}{subject}{self.reason}"]
        if self.allowed is not None:
            lines.append(f"  allowed: {self.allowed}")
        lines.append(f"  to do: {self.remedy}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Give the problem as values that JSON can hold.

        Returns
        -------
        dict of str to str, int or None
            Field, reason, allowed, remedy, place, file, line and value, by these names.
        """
        names = ("field", "reason", "allowed", "remedy")
        origin = {"place": self.origin.place, "file": self.origin.file, "line": self.origin.line}
        return {name: getattr(self, name) for name in names} | origin | {"value": self.given}


class SettingsError(ConfigError):
    """Settings that cannot be used; the message lists every problem that was found, in the order of the file.

    Parameters
    ----------
    problems : sequence of Problem
        At least one problem.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.origin.line or sys.maxsize))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"These settings cannot be used ({count}).", *map(str, self.problems)]))

    def __reduce__(self) -> tuple[type[SettingsError], tuple[Sequence[Problem]]]:
        return type(self), (self.problems,)


@dataclass
class Findings:
    """What the sources of the settings tell besides values."""

    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the settings."""
    notes: list[str] = field(default_factory=list)
    """Warnings."""

    def add(
        self, reason: str, remedy: str, name: str | None = None, given: str | None = None, *, origin: Origin
    ) -> None:
        """Record a :class:`Problem`.

        Parameters
        ----------
        reason : str
            What is wrong.
        remedy : str
            What to do.
        name : str, optional
            Dotted field, where the problem is one field's.
        given : str, optional
            The value as it was given; secrets hidden.
        origin : Origin
            Where it was given.
        """
        self.problems.append(Problem(reason, remedy, name, given, origin=origin))


def explain(error: ValidationError, provenance: Provenance) -> list[Problem]:
    """Put what pydantic found into words.

    Parameters
    ----------
    error : ValidationError
        Errors of a validation of :class:`~canvod.launch.config.Settings`.
    provenance : Provenance
        Where the values came from.

    Returns
    -------
    list of Problem
        One problem for each error.
    """
    # A list whose items are all refused counts as too short as well; that would be told twice.
    return [
        _explain_one(details, provenance)
        for details in error.errors(include_url=False)
        if not (details["type"] == "too_short" and details["input"])
    ]


def _explain_one(details: ErrorDetails, provenance: Provenance) -> Problem:
    parts = [str(part) for part in details["loc"] if part != "[key]"]
    name, section = ".".join(parts), ".".join(parts[:-1])
    written = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts).lstrip(".")
    kind, value = details["type"], details["input"]
    origin = provenance.of(name)
    if kind == "extra_forbidden":
        reason, remedy = f"is not a field of {section}", _instead_of(parts[-1], section)
        allowed = f"the fields {', '.join(sections()[section])}"
        return Problem(reason, remedy, written, shown(name, value), allowed, origin)
    rule = rule_of(name)
    remedy = rule.remedy if rule else "correct the value, or leave the line out"
    if kind == "missing_in_manual":
        # The field is not there, so the line that asks for it is the place to go to.
        origin = provenance.of("processing.resource_mode")
    elif value is None:
        remedy = "leave the line out to have the default, or give it a value"
    elif kind == "literal_error" and (near := nearest(str(value), choices_of(name))):
        remedy = f"did you mean {near}?"
    words = _REASONS.get(kind) or _REASONS.get(kind.partition("_")[0])
    reason = without_password(words.format(**details.get("ctx", {})) if words else details["msg"])
    given = None if kind == "missing_in_manual" else shown(name, value)
    return Problem(reason, remedy, written, given, rule.allowed if rule else None, origin)


def _instead_of(key: str, section: str) -> str:
    """Remedy for a key that a section does not have, which may belong to another section."""
    other = next((name for name, known in sections().items() if name != section and key in known), None)
    if other is not None:
        return f"move it to the section {other}:, where it belongs"
    near = nearest(key, sections()[section])
    return "remove the line" if near is None else f"did you mean {near}?"
