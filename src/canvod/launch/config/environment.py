"""Settings from environment variables: ``CANVOD_LAUNCH__BACKEND=process``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, EnvSettingsSource

from canvod.launch.config.catalogue import SECTIONS, field_of, fields, nearest
from canvod.launch.config.problems import Problem
from canvod.launch.config.provenance import Origin
from canvod.launch.config.redact import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

PREFIX = "CANVOD_"
"""What every variable of ours begins with."""

_NAME = re.compile(r"CANVOD_([A-Z]+)__(.+)", re.IGNORECASE)
_FREE_NAMES = "launch.environment"


@dataclass
class Variables:
    """The environment variables that are settings."""

    values: dict[str, str | None] = field(default_factory=dict)
    """Values by name, spelt as the source below looks them up."""
    origins: dict[str, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def variable_name(name: str) -> str:
    """Name of the environment variable of a field.

    Parameters
    ----------
    name : str
        Dotted field.

    Returns
    -------
    str
        The variable.

    Examples
    --------
    >>> variable_name("launch.build.ca_bundle")
    'CANVOD_LAUNCH__BUILD__CA_BUNDLE'
    """
    return PREFIX + name.upper().replace(".", "__")


def read_variables(environ: Mapping[str, str]) -> Variables:
    """Pick the settings out of an environment; all other variables are left alone.

    Parameters
    ----------
    environ : Mapping of str to str
        The environment. An empty value counts as not set, and ``null`` as null.

    Returns
    -------
    Variables
        A variable that has the form of a setting but is none is a problem; one that only resembles a setting
        (``CANVOD_LAUNCH_BACKEND``) is worth a warning.
    """
    found = Variables()
    by_name = {variable_name(name): name for name in fields()}
    for variable, value in sorted(environ.items()):
        if not value or not variable.upper().startswith(PREFIX):
            continue
        match = _NAME.fullmatch(variable)
        section = match[1].lower() if match else ""
        if match is None or section not in SECTIONS:
            near = nearest(variable, by_name, cutoff=0.9)
            if near is not None:
                found.notes.append(
                    f"environment variable {variable} is not a setting and is left alone; "
                    f"did you mean {near}?"
                )
            continue
        name = f"{section}.{match[2].lower().replace('__', '.')}"
        is_free = name.startswith(f"{_FREE_NAMES}.")
        if is_free:
            # The part after it names a variable of the workers, and keeps its case.
            name = f"{_FREE_NAMES}.{match[2].split('__', 1)[1]}"
        given = shown(name, value)
        origin = Origin("environment", f"environment variable {variable}", given)
        if name not in fields() and not is_free:
            found.problems.append(_unknown(variable, name, by_name, given, origin))
            continue
        found.values[PREFIX + name.replace(".", "__")] = None if value == "null" and not is_free else value
        found.origins[name] = origin
    return found


def _unknown(variable: str, name: str, by_name: Mapping[str, str], given: str, origin: Origin) -> Problem:
    near = nearest(variable, by_name)
    below = [candidate for candidate, dotted in by_name.items() if dotted.startswith(f"{name}.")]
    if below:
        remedy = f"it is a section: set its fields, such as {below[0]}"
    elif (above := field_of(name)) in fields() and above is not None:
        remedy = f"set {variable_name(above)}, which has no parts"
    elif near is not None:
        remedy = f"did you mean {near}?"
    else:
        remedy = f"unset {variable}; canvod-launch config schema lists all fields"
    return Problem("is not a setting", remedy, name, given, origin=origin)


class VariablesSource(EnvSettingsSource):
    """pydantic-settings' environment source over the variables picked above.

    Parameters
    ----------
    settings_cls : type of BaseSettings
        The model to fill.
    values : Mapping of str to str or None
        :attr:`Variables.values`.
    """

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, str | None]) -> None:
        # At most two splits, so that a worker's variable may have __ in its name.
        super().__init__(
            settings_cls,
            case_sensitive=True,
            env_prefix=PREFIX,
            env_nested_delimiter="__",
            env_nested_max_split=2,
        )
        self.env_vars = dict(values)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode a list or a mapping; what is not JSON is passed on, to be refused with the rest."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value
