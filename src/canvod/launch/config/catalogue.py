"""The settings' fields by their dotted names, derived from the models."""

from __future__ import annotations

import difflib
from functools import cache
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel

from canvod.launch.config.field_types import Rule
from canvod.launch.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

SECTIONS = tuple(Settings.model_fields)
"""Top-level sections that are read: ``processing``, ``launch`` and ``ingest``."""


@cache
def fields() -> dict[str, FieldInfo]:
    """List all fields, sections such as ``launch.build`` included, in the order of the models.

    Returns
    -------
    dict of str to FieldInfo
        pydantic's description of each field, by dotted name.
    """

    def walk(model: type[BaseModel], above: str) -> Iterator[tuple[str, FieldInfo]]:
        for name, info in model.model_fields.items():
            yield f"{above}{name}", info
            if (section := _model_of(info)) is not None:
                yield from walk(section, f"{above}{name}.")

    return dict(walk(Settings, ""))


def field_names() -> tuple[str, ...]:
    """Name all fields that hold a value, in the order of the settings file.

    Returns
    -------
    tuple of str
        Dotted names; those of sections are left out.

    Examples
    --------
    >>> field_names()[0]
    'processing.resource_mode'
    """
    return tuple(name for name, info in fields().items() if _model_of(info) is None)


@cache
def sections() -> dict[str, tuple[str, ...]]:
    """Name the fields of each section, and of the sections below it.

    Returns
    -------
    dict of str to tuple of str
        Names of fields, by the section's dotted name.
    """
    return {
        name: tuple(model.model_fields)
        for name, info in fields().items()
        if (model := _model_of(info)) is not None
    }


def field_of(name: str) -> str | None:
    """Tell which field a dotted name belongs to: ``launch.read_only`` for ``launch.read_only.0``.

    Parameters
    ----------
    name : str
        Dotted name of a field, or of a part of one.

    Returns
    -------
    str or None
        Dotted name of the field; None where there is none.
    """
    parts = name.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((part for part in above if part in fields()), None)


def rule_of(name: str) -> Rule | None:
    """Find the rule of the field that a dotted name belongs to.

    Parameters
    ----------
    name : str
        Dotted name of a field, or of a part of one.

    Returns
    -------
    Rule or None
        The rule; where the field has words to choose from, a rule that lists them. None where there is
        neither.
    """
    rule = next((part for part in _parts(name) if isinstance(part, Rule)), None)
    words, field = choices_of(name), field_of(name)
    if rule is None and words and field is not None:
        allowed = f"{', '.join(words[:-1])} or {words[-1]}"
        return Rule(allowed, f"write one of these, or leave the line out to have {fields()[field].default}")
    return rule


def choices_of(name: str) -> tuple[str, ...]:
    """List the words that a field chooses from.

    Parameters
    ----------
    name : str
        Dotted name of a field, or of a part of one.

    Returns
    -------
    tuple of str
        The words; empty where the field takes other values.
    """
    return tuple(part for part in _parts(name) if isinstance(part, str))


def nearest(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Word of a collection that a misspelt one most likely stands for.

    Parameters
    ----------
    word : str
        What was written.
    words : iterable of str
        What could have been meant.
    cutoff : float, default 0.6
        Least similarity, 0 to 1, in the measure of :mod:`difflib`.

    Returns
    -------
    str or None
        The nearest word, letters' case left aside, or None where nothing is near.

    Examples
    --------
    >>> nearest("bakend", ["backend", "python"])
    'backend'
    """
    by_lower = {candidate.lower(): candidate for candidate in words}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None


def _model_of(info: FieldInfo) -> type[BaseModel] | None:
    annotation = info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _parts(name: str) -> Iterator[object]:
    """Parts of the type of the field that a name belongs to: metadata, types, and words to choose from."""

    def leaves(annotation: object) -> Iterator[object]:
        arguments = get_args(annotation)
        if not arguments:
            yield annotation
        for argument in arguments:
            yield from leaves(argument)

    dotted = field_of(name)
    if dotted is not None:
        info = fields()[dotted]
        yield from info.metadata
        yield from leaves(info.annotation)
