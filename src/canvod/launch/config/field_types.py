"""Types of the settings' fields, each with the words that explain it when a value is refused."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, ValidationError, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from canvod.launch.config.redact import without_password
from canvod.launch.paths import absolute

if TYPE_CHECKING:
    from pydantic import ValidatorFunctionWrapHandler

_AMBIGUOUS_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
_HASH = re.compile(r"sha(256|384|512):[0-9a-f]{64,128}")


@dataclass(frozen=True)
class Rule:
    """What a field allows and how to correct it, in words; every field of the settings has one.

    Parameters
    ----------
    allowed : str
        The values that are allowed, such as ``a whole number from 0 (normal) to 19 (lowest)``.
    remedy : str
        What to write instead, as an imperative.
    """

    allowed: str
    remedy: str


def distinct(noun: str) -> WrapValidator:
    """Make a validator that refuses repeated items of a list, together with items that are invalid.

    Parameters
    ----------
    noun : str
        What an item is called in the message, such as ``core``.

    Returns
    -------
    pydantic.WrapValidator
        Metadata for a field that is a tuple.
    """
    return WrapValidator(partial(_check_distinct, noun))


def _check_distinct(noun: str, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    items, errors = value, []
    try:
        items = validate(value)
    except ValidationError as exc:
        for error in exc.errors(include_url=False):
            kind = PydanticCustomError(error["type"], error["msg"], error.get("ctx"))
            errors.append(InitErrorDetails(type=kind, loc=error["loc"], input=error["input"]))
    invalid = {error["loc"][0] for error in errors if error["loc"]}
    listed = items if isinstance(items, list | tuple) else ()
    names = [str(item) for index, item in enumerate(listed) if index not in invalid]
    repeated = ", ".join(sorted({name for name in names if names.count(name) > 1}))
    if repeated:
        kind = PydanticCustomError("repeated", f"names {noun} {{items}} more than once", {"items": repeated})
        errors.append(InitErrorDetails(type=kind, input=value))
    if errors:
        raise ValidationError.from_exception_data(noun, errors)
    return items


def _decimal(value: object) -> object:
    # Python counts True as 1.
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "is a truth value, not a number")
    # pydantic reads 010 as 10, and what else reads the same file, canVODpy for one, as 8.
    if isinstance(value, str) and _AMBIGUOUS_NUMBER.fullmatch(value):
        reason = "is not a decimal number: YAML reads a leading 0 in base 8, and a : in base 60"
        raise PydanticCustomError("not_decimal", reason)
    return value


def _absolute(path: Path) -> Path:
    if not os.path.expanduser(path).startswith("/"):  # noqa: PTH111 - pathlib raises for a user not known
        raise PydanticCustomError("not_absolute", "is not an absolute path")
    return absolute(path)


def _not_the_root(path: Path) -> Path:
    if path == Path("/"):
        raise PydanticCustomError("root_folder", "is the root of the host")
    return path


def _package(text: str) -> str:
    """Accept a requirement, with hashes maybe, or the path of a file."""
    from packaging.requirements import InvalidRequirement, Requirement

    if text.startswith(("/", "~")):
        return str(_absolute(Path(text)))
    if without_password(text) != text:
        raise PydanticCustomError(
            "credentials", "has a password in an address, which would stay in the cache of builds"
        )
    requirement, *hashes = text.split(" --hash=")
    if requirement.endswith((".txt", ".lock", ".in")):
        raise PydanticCustomError("not_absolute", "is not an absolute path")
    if requirement.lstrip().startswith("-") or not all(_HASH.fullmatch(each.strip()) for each in hashes):
        raise PydanticCustomError("not_a_requirement", "is not a requirement")
    try:
        Requirement(requirement)
    except InvalidRequirement as exc:
        reason = str(exc).splitlines()[0]
        raise PydanticCustomError(
            "not_a_requirement", "is not a requirement: {reason}", {"reason": reason}
        ) from exc
    return " ".join(text.split())


DECIMAL = BeforeValidator(_decimal)
"""Metadata of a number, behind its limits: it is written in decimal notation, and ``true`` is not 1."""

Count = Annotated[
    int, Field(ge=1), DECIMAL, Rule("a whole number of at least 1", "write 1 or more, or leave the line out")
]
"""A number of things, at least one."""

Gibibytes = Annotated[
    FiniteFloat, Field(gt=0), DECIMAL, Rule("a number above 0, in GiB", "write it without a unit: 16")
]
"""An amount of memory or disk, in GiB."""

Seconds = Annotated[
    FiniteFloat, Field(gt=0), DECIMAL, Rule("a number above 0, in seconds", "write it without a unit: 60")
]
"""A length of time, in seconds."""

Word = Annotated[str, Field(min_length=1, pattern=r"^\S+$")]
"""Text that is neither empty nor holds white space."""

HttpAddress = Annotated[
    str,
    Field(pattern=r"^https?://\S+$"),
    Rule("an http(s) address", "write https://… or http://…, or leave the line out"),
]
"""An address of the web."""

AbsolutePath = Annotated[
    Path,
    AfterValidator(_absolute),
    Rule("an absolute path", "write a path that starts with / or ~, or leave the line out"),
]
"""A path of the host that starts with ``/`` or ``~``; normalised, symbolic links are kept."""

MountPath = Annotated[AbsolutePath, AfterValidator(_not_the_root)]
"""A path of the host that containers see under the same name."""

MountPaths = Annotated[
    tuple[MountPath, ...],
    distinct("path"),
    Rule("a list of absolute paths other than /", "write each path from the root: [/data/gnss]"),
]
"""Different paths of the host that containers see under the same names."""

Package = Annotated[str, AfterValidator(_package)]
"""A requirement of pip, or the absolute path of a file of requirements."""

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of an environment variable."""

VariableValue = Annotated[str, Field(coerce_numbers_to_str=True)]
"""Value of an environment variable; numbers are taken as they are written."""
