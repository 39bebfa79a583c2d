"""What is wrong with settings, in words that name place, field, value, what is allowed and what to do."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from canvod.launch.config.catalogue import choices_of, names_in, nearest, rule_of, sections
from canvod.launch.config.provenance import DEFAULT, Origin, Provenance
from canvod.launch.config.redact import shown, without_password
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
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is not a number of that size",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
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
"""Words for pydantic's types of errors; the placeholders are the errors' own context."""


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
        place = "" if self.origin.place is None else f"{self.origin.place}: "
        lines = [f"{place}{subject}{self.reason}"]
        if self.allowed is not None:
            lines.append(f"  allowed: {self.allowed}")
        lines.append(f"  to do: {self.remedy}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return the problem as values that JSON can hold."""
        return {
            "field": self.field,
            "place": self.origin.place,
            "file": self.origin.file,
            "line": self.origin.line,
            "value": self.given,
            "reason": self.reason,
            "allowed": self.allowed,
            "remedy": self.remedy,
        }


class SettingsError(ConfigError):
    """Settings that cannot be used, with every problem that was found.

    Parameters
    ----------
    message : str
        All problems in words.
    hint : str, optional
        What to do next.
    problems : sequence of Problem
        The problems one by one.
    """

    def __init__(self, message: str, *, hint: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


def refusal(problems: Sequence[Problem]) -> SettingsError:
    """Make one error of all problems, in the order of the file.

    Parameters
    ----------
    problems : sequence of Problem
        At least one problem.

    Returns
    -------
    SettingsError
        An error whose message lists every problem.
    """
    ordered = sorted(problems, key=lambda problem: (problem.origin.line is None, problem.origin.line or 0))
    count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
    return SettingsError(
        f"These settings cannot be used ({count}).\n" + "\n".join(str(problem) for problem in ordered),
        problems=ordered,
    )


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


def unknown_field(section: str, key: str, *, given: str | None = None, origin: Origin = DEFAULT) -> Problem:
    """Describe a key that a section does not have.

    Parameters
    ----------
    section : str
        Dotted section, such as ``launch.build``.
    key : str
        The key.
    given : str, optional
        Its value, secrets hidden.
    origin : Origin
        Where it was given.

    Returns
    -------
    Problem
        With the name that was most likely meant, which may be one of another section.
    """
    known = names_in(section)
    near = nearest(key, known)
    other = next((name for name in sections() if name != section and key in names_in(name)), None)
    if other is not None:
        remedy = f"move it to the section {other}:, where it belongs"
    elif near is not None:
        remedy = f"did you mean {near}?"
    else:
        remedy = "remove the line"
    return Problem(
        f"is not a field of {section}",
        remedy,
        f"{section}.{key}",
        given,
        f"the fields {', '.join(known)}",
        origin,
    )


def _explain_one(details: ErrorDetails, provenance: Provenance) -> Problem:
    parts = [str(part) for part in details["loc"] if part != "[key]"]
    name = ".".join(parts)
    kind = details["type"]
    origin = provenance.of(name)
    if kind == "missing_in_manual":
        # The field is not there, so the line that asks for it is the place to go to.
        origin = provenance.of("processing.resource_mode")
    value = None if kind == "missing_in_manual" else shown(name, details["input"])
    if value is not None and origin.given is not None and name in provenance.origins:
        value = origin.given
    if kind == "extra_forbidden":
        return unknown_field(".".join(parts[:-1]), parts[-1], given=value, origin=origin)
    rule = rule_of(name)
    remedy = rule.remedy if rule else "correct the value, or leave the line out"
    if details["input"] is None and kind != "missing_in_manual":
        remedy = "leave the line out to have the default, or give it a value"
    if kind == "literal_error" and (near := nearest(str(details["input"]), choices_of(name))):
        remedy = f"did you mean {near}?"
    known = _REASONS.get(kind)
    reason = details["msg"] if known is None else known.format(**details.get("ctx", {}))
    return Problem(
        without_password(reason), remedy, _with_indices(parts), value, rule.allowed if rule else None, origin
    )


def _with_indices(parts: list[str]) -> str:
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts).lstrip(".")
