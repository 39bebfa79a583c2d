"""pydantic-settings' source of environment variables such as ``CANVOD_LAUNCH__BACKEND=process``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, EnvSettingsSource

from canvod.launch.config.catalogue import SECTIONS, field_names, field_of, nearest
from canvod.launch.config.redact import shown
from canvod.launch.config.settings import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from canvod.launch.config.problems import Findings

PREFIX = "CANVOD_"
"""What every variable of ours begins with."""

_FREE_NAMES = "launch.environment"
"""The field whose parts may have any name."""


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


class EnvironmentSource(EnvSettingsSource):
    """The variables of an environment that are settings; all others are left alone.

    An empty value counts as not set, and ``null`` as null. A variable that has the form of a setting but is
    none is a problem; one that only resembles a setting (``CANVOD_LAUNCH_BACKEND``) is noted.

    Parameters
    ----------
    settings_cls : type of BaseSettings
        The model to fill.
    environ : Mapping of str to str
        The environment.
    findings : Findings
        Takes the problems and the notes.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], environ: Mapping[str, str], findings: Findings
    ) -> None:
        self.environ = environ
        self.findings = findings
        self.origins: dict[str, Origin] = {}
        super().__init__(settings_cls)

    def _load_env_vars(self) -> dict[str, str | None]:
        """Pick the settings by any spelling, and name them as the models do."""
        by_variable = {variable_name(name): name for name in field_names()}
        free = f"{variable_name(_FREE_NAMES)}__"
        found: dict[str, str | None] = {}
        for variable, value in sorted(self.environ.items()):
            upper = variable.upper()
            if not value or not upper.startswith(PREFIX):
                continue
            section, delimiter, field = upper.removeprefix(PREFIX).lower().partition("__")
            is_free = upper.startswith(free)
            if not delimiter or section not in SECTIONS:
                near = nearest(variable, by_variable, cutoff=0.9)
                if near is not None:
                    text = f"environment variable {variable} is not a setting and is left alone"
                    self.findings.notes.append(f"{text}; did you mean {near}?")
                continue
            name = f"{section}.{field.replace('__', '.')}"
            if is_free:
                name = f"{_FREE_NAMES}.{variable[len(free) :]}"
            origin = Origin("environment", f"environment variable {variable}")
            if upper in by_variable or is_free:
                found[PREFIX + name.replace(".", "__")] = None if value == "null" and not is_free else value
                self.origins[name] = origin
            else:
                remedy = _instead_of(variable, name, by_variable)
                self.findings.add("is not a setting", remedy, name, shown(name, value), origin=origin)
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode a list or a mapping; what is not JSON is passed on, to be refused with the rest.

        Parameters
        ----------
        field_name : str
            Name of the field.
        field : FieldInfo
            pydantic's description of it.
        value : Any
            The text of the variable.

        Returns
        -------
        Any
            The list or mapping; the text as it is where it is not JSON.
        """
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _instead_of(variable: str, name: str, by_variable: Mapping[str, str]) -> str:
    """Remedy for a variable that has the form of a setting but is none."""
    below = next((each for each, field in by_variable.items() if field.startswith(f"{name}.")), None)
    if below is not None:
        return f"it is a section: set its fields, such as {below}"
    above = variable_name(field_of(name) or "")
    if above in by_variable:
        return f"set {above}, which has no parts"
    near = nearest(variable, by_variable)
    if near is not None:
        return f"did you mean {near}?"
    return f"unset {variable}; canvod-launch config schema lists all fields"
