"""The settings' fields by their dotted names, derived from the models."""

from __future__ import annotations

import difflib
from functools import cache
from typing import TYPE_CHECKING, TypeGuard, get_args

from pydantic import BaseModel

from canvod.launch.config.fields import Rule
from canvod.launch.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

SECTIONS = tuple(Settings.model_fields)
"""Top-level sections that are read: ``processing``, ``launch`` and ``ingest``."""


@cache
def sections() -> dict[str, type[BaseModel]]:
    """Models of all sections by dotted name, ``launch.build`` included."""

    def walk(name: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
        yield name, model
        for field, info in model.model_fields.items():
            if _is_model(info.annotation):
                yield from walk(f"{name}.{field}", info.annotation)

    return {
        dotted: model
        for name, info in Settings.model_fields.items()
        if _is_model(info.annotation)
        for dotted, model in walk(name, info.annotation)
    }


@cache
def fields() -> dict[str, FieldInfo]:
    """All fields that hold a value, by dotted name, in the order of the models."""
    return {
        f"{section}.{name}": info
        for section, model in sections().items()
        for name, info in model.model_fields.items()
        if f"{section}.{name}" not in sections()
    }


def field_names() -> tuple[str, ...]:
    """Dotted names of all fields that hold a value, in the order of the settings file.

    Examples
    --------
    >>> field_names()[0]
    'processing.resource_mode'
    """
    return tuple(fields())


@cache
def names_in(section: str) -> tuple[str, ...]:
    """Names of a section's fields and of the sections below it."""
    return tuple(sections()[section].model_fields)


def field_of(name: str) -> str | None:
    """Field that a dotted name belongs to: ``launch.read_only`` for ``launch.read_only.0``."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        dotted = ".".join(parts[:length])
        if dotted in fields() or dotted in sections():
            return dotted
    return None


def rule_of(name: str) -> Rule | None:
    """Rule of the field that a dotted name belongs to."""
    dotted = field_of(name)
    if dotted is None:
        return None
    section, _, field = dotted.rpartition(".")
    for item in sections()[section].model_fields[field].metadata:
        if isinstance(item, Rule):
            return item
    return None


def choices_of(name: str) -> tuple[str, ...]:
    """Words that a field chooses from; empty where it takes other values."""
    dotted = field_of(name)
    info = fields().get(dotted) if dotted else None
    return tuple(leaf for leaf in _leaves(info.annotation) if isinstance(leaf, str)) if info else ()


def takes_number(name: str) -> bool:
    """Whether a field, or the items of its list, are numbers."""
    dotted = field_of(name)
    info = fields().get(dotted) if dotted else None
    return info is not None and any(leaf in (int, float) for leaf in _leaves(info.annotation))


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


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _leaves(annotation: object) -> Iterator[object]:
    arguments = get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from _leaves(argument)
