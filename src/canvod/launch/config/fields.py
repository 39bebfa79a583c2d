"""Types of the settings' fields, and the words in which a refusal explains them."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from canvod.launch.paths import absolute


@dataclass(frozen=True)
class Rule:
    """What a field allows and how to mend it, in words; every field of the settings carries one.

    Parameters
    ----------
    allowed : str
        The values that are allowed, such as ``a whole number from 0 (normal) to 19 (lowest)``.
    remedy : str
        What to write instead, as an imperative.
    """

    allowed: str
    remedy: str


def _not_a_truth_value(value: object) -> object:
    # Python counts True as 1, and YAML 1.1 reads a bare yes, on or true as True.
    if isinstance(value, bool):
        raise PydanticCustomError("truth_value", "is a truth value, not a number")
    return value


def _as_text(value: object) -> object:
    # A number is unambiguous as the value of an environment variable; a truth value (true? True? 1?) is not.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
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
    if _CREDENTIALS.search(text):
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


_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_HASH = re.compile(r"sha(256|384|512):[0-9a-f]{64,128}")

Whole = Annotated[int, BeforeValidator(_not_a_truth_value)]
"""A whole number; ``true`` is not 1."""

Amount = Annotated[float, BeforeValidator(_not_a_truth_value), Field(allow_inf_nan=False)]
"""A finite number; ``true`` is not 1.0."""

Text = Annotated[str, Field(min_length=1, pattern=r"^\S+$")]
"""Text that is neither empty nor holds white space."""

AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A path of the host that starts with ``/`` or ``~``; normalised, symbolic links are kept."""

MountPath = Annotated[AbsolutePath, AfterValidator(_not_the_root)]
"""A path of the host that containers see under the same name."""

Package = Annotated[str, AfterValidator(_package)]
"""A requirement of pip, or the absolute path of a file of requirements."""

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of an environment variable."""

VariableValue = Annotated[str, BeforeValidator(_as_text)]
"""Value of an environment variable; numbers are taken as they are written."""
