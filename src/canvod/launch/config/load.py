"""Load the settings: defaults, below a file or values, below the environment, below a command's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from canvod.launch.config.canvodpy import our_sections
from canvod.launch.config.catalogue import field_names
from canvod.launch.config.environment_source import PREFIX, EnvironmentSource
from canvod.launch.config.problems import Findings, SettingsError, explain
from canvod.launch.config.settings import Origin, Provenance, Settings
from canvod.launch.config.yaml_file import YamlFile

if TYPE_CHECKING:
    from collections.abc import Iterator

type SettingsLike = str | Path | Mapping[str, Any] | Settings | None
"""A settings file, sections given in Python, settings that are ready, or nothing."""


class _Layered(BaseSettings, Settings):
    """Settings from sources, the one first that goes before all others; they are the one argument."""

    # At most two splits of a variable, as a worker's variable may have __ in its name.
    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_nested_max_split=2,
        extra="ignore",
    )

    @classmethod
    def settings_customise_sources(cls, *_: Any, **given: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return tuple(given["init_settings"]()["sources"])


def load_settings(
    source: SettingsLike = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    overridden_by: str = "command line",
) -> Settings:
    """Load and validate settings.

    Parameters
    ----------
    source : str, Path, Mapping, Settings or None
        A YAML file, or its sections as a mapping; None takes the defaults. Settings that are ready are taken
        as they are, and the environment is not read again.
    environ : Mapping of str to str, optional
        Environment variables, such as ``CANVOD_LAUNCH__BACKEND=process``; ``os.environ`` where None. They go
        before the source.
    overrides : Mapping of str to value, optional
        Values by dotted field that go before everything else; a None is not given.
    overridden_by : str, default "command line"
        Where messages say that the overrides came from.

    Returns
    -------
    Settings
        With the place of each value (:meth:`Settings.origin`) and :attr:`Settings.warnings`.

    Raises
    ------
    SettingsError
        A `ConfigError`, one for everything that is wrong: each problem with its place, field, value, what is
        allowed and what to do.
    ValueError
        If an override names a field that does not exist.
    TypeError
        If the source is neither a path nor a mapping nor settings.

    Examples
    --------
    >>> environ = {"CANVOD_LAUNCH__BACKEND": "process"}
    >>> settings = load_settings({"processing": {"nice_priority": 10}}, environ=environ)
    >>> settings.processing.nice_priority, settings.launch.backend
    (10, 'process')
    >>> settings.origin("launch.backend").place
    'environment variable CANVOD_LAUNCH__BACKEND'
    """
    options = {name: value for name, value in (overrides or {}).items() if value is not None}
    unknown = [name for name in options if name not in field_names()]
    if unknown:
        raise ValueError(f"overrides of fields that do not exist: {', '.join(unknown)}")
    if isinstance(source, Settings):
        if not options:
            return source
        environ = {}
    findings = Findings()
    variables = EnvironmentSource(_Layered, os.environ if environ is None else environ, findings)
    data, below = _lowest(source, findings)
    provenance = Provenance(
        {**below.origins, **variables.origins, **dict.fromkeys(options, Origin("override", overridden_by))},
        below.source,
        (*below.notes, *findings.notes),
    )
    sources = (InitSettingsSource(_Layered, _nested(options)), variables, InitSettingsSource(_Layered, data))
    try:
        settings = Settings(**dict(_Layered.model_validate({"sources": sources})))
    except ValidationError as exc:
        # A key that is given twice is told once.
        told = {(problem.field, problem.origin.place) for problem in findings.problems}
        findings.problems += [
            problem
            for problem in explain(exc, provenance)
            if (problem.field, problem.origin.place) not in told
        ]
    else:
        if not findings.problems:
            return settings.with_provenance(provenance)
    raise SettingsError(findings.problems)


def _lowest(source: SettingsLike, findings: Findings) -> tuple[dict[str, Any], Provenance]:
    """Read what goes before nothing but the defaults."""
    if isinstance(source, Settings):
        return source.model_dump(exclude_unset=True), source.provenance
    if isinstance(source, str | Path):
        file = YamlFile(source, findings)
        return our_sections(file.read(), file.origins, findings), Provenance(file.origins, file.name)
    if source is not None and not isinstance(source, Mapping):
        raise TypeError(f"settings are a path, a mapping or Settings, not {type(source).__name__}")
    data = {
        str(key): value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        for key, value in (source or {}).items()
    }
    origins = dict.fromkeys(_names(data), Origin("value", "settings given in Python"))
    return our_sections(data, origins, findings), Provenance(origins)


def _names(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in data.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{above}{key}.")


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in options.items():
        *path, last = name.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return nested
