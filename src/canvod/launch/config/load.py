"""Load the settings: defaults, below a file or values, below the environment, below a command's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from canvod.launch.config.catalogue import SECTIONS, fields, names_in, nearest
from canvod.launch.config.document import Document, read_document
from canvod.launch.config.environment import Variables, VariablesSource, read_variables
from canvod.launch.config.models import IngestSettings, LaunchSettings, ProcessingSettings
from canvod.launch.config.problems import Problem, explain, refusal
from canvod.launch.config.provenance import Origin, Provenance
from canvod.launch.config.redact import shown
from canvod.launch.config.settings import Settings

Source = str | Path | Mapping[str, Any] | Settings | None
"""A settings file, sections given in Python, settings that are ready, or nothing."""

_RESOURCES = names_in("processing")
_NEIGHBOUR = "preprocessing"
"""A section of canVODpy that only looks like ours misspelt."""


def load_settings(
    source: Source = None,
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
        With the place of each value (:meth:`Settings.locate`) and :attr:`Settings.warnings`.

    Raises
    ------
    ConfigError
        One error for everything that is wrong, each with its place, field, value, what is allowed and what
        to do.

    Examples
    --------
    >>> environ = {"CANVOD_LAUNCH__BACKEND": "process"}
    >>> settings = load_settings({"processing": {"nice_priority": 10}}, environ=environ)
    >>> settings.processing.nice_priority, settings.launch.backend
    (10, 'process')
    >>> settings.locate("launch.backend")
    'environment variable CANVOD_LAUNCH__BACKEND'
    """
    options = {name: value for name, value in (overrides or {}).items() if value is not None}
    if isinstance(source, Settings):
        if not options:
            return source
        document = _from_settings(source)
        variables = Variables()
    else:
        document = _read(source)
        variables = read_variables(os.environ if environ is None else environ)
    unknown = [name for name in options if name not in fields()]
    if unknown:
        raise ValueError(f"overrides of fields that do not exist: {', '.join(unknown)}")
    provenance = Provenance(
        origins={
            **document.origins,
            **variables.origins,
            **{
                name: Origin("override", overridden_by, shown(name, value)) for name, value in options.items()
            },
        },
        source=document.source,
        notes=(*document.notes, *variables.notes),
    )
    problems = [*document.problems, *variables.problems]
    if document.readable:
        try:
            settings = _merge(document, variables, options)
        except ValidationError as exc:
            # A key that is given twice, or in base 8, is told once.
            told = {(problem.field, problem.origin.place) for problem in problems}
            found = explain(exc, provenance)
            problems += [problem for problem in found if (problem.field, problem.origin.place) not in told]
        else:
            if not problems:
                return settings.with_provenance(provenance)
    raise refusal(problems)


class _Layers(BaseSettings):
    """The layers put one over the other; they come in as one argument, first the one that goes before all."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    processing: ProcessingSettings = ProcessingSettings()
    launch: LaunchSettings = LaunchSettings()
    ingest: IngestSettings = IngestSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        options, variables, document = init_settings()["layers"]
        return (
            InitSettingsSource(settings_cls, options),
            VariablesSource(settings_cls, variables),
            InitSettingsSource(settings_cls, document),
        )


def _merge(document: Document, variables: Variables, options: Mapping[str, Any]) -> Settings:
    given: dict[str, Any] = {"layers": (_nested(options), variables.values, document.data)}
    layers = _Layers(**given)
    return Settings(processing=layers.processing, launch=layers.launch, ingest=layers.ingest)


def _read(source: str | Path | Mapping[str, Any] | None) -> Document:
    if source is None:
        return Document()
    if isinstance(source, Mapping):
        document = _from_mapping(source)
    elif isinstance(source, str | Path):
        document = read_document(Path(source).expanduser(), str(source))
    else:
        raise TypeError(f"settings are a path, a mapping or Settings, not {type(source).__name__}")
    _keep_sections(document)
    return document


def _from_mapping(source: Mapping[str, Any]) -> Document:
    document = Document()
    for key, value in source.items():
        section = value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        document.data[str(key)] = section if key in SECTIONS else None
        if isinstance(section, Mapping) and key in SECTIONS:
            document.data[str(key)] = dict(section)
    for name, value in _flat(document.data):
        document.origins[name] = Origin("value", "settings given in Python", shown(name, value))
    return document


def _from_settings(settings: Settings) -> Document:
    data = settings.model_dump(exclude_unset=True)
    provenance = settings.provenance
    return Document(data, dict(provenance.origins), notes=list(provenance.notes), source=provenance.source)


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = f"{prefix}{key}"
        pairs.append((name, value))
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name}.")
    return pairs


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in options.items():
        *path, last = name.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return nested


def _keep_sections(document: Document) -> None:
    """Reduce a document to our sections, noting what looks misplaced or misspelt."""
    data, origins = document.data, document.origins
    for key in [key for key in data if key not in SECTIONS]:
        del data[key]
        place = _at(origins.get(key))
        if key in _RESOURCES:
            document.problems.append(
                Problem(
                    "stands outside of the section processing and would have no effect",
                    "indent it below processing:",
                    key,
                    origin=origins.get(key, Origin("value")),
                )
            )
        elif key != _NEIGHBOUR and (near := nearest(key, SECTIONS, cutoff=0.75)):
            document.notes.append(f"{place}section {key} is not read; did you mean {near}?")
    for section in [name for name in SECTIONS if data.get(name) is None]:
        data.pop(section, None)
    for section, value in list(data.items()):
        if not isinstance(value, dict):
            del data[section]
            document.problems.append(
                Problem(
                    "is not a section: no fields are indented below it",
                    f"indent the fields below {section}:, or remove the line",
                    section,
                    shown(section, value),
                    origin=origins.get(section, Origin("value")),
                )
            )
    if "processing" in data:
        data["processing"] = _resources(data["processing"], document)


def _resources(section: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """Take the resource fields from processing, or from processing.params where canVODpy 1.0 keeps them."""
    origins = document.origins
    given = {key: value for key, value in section.items() if key in _RESOURCES and value is not None}
    params = section.get("params")
    if isinstance(params, Mapping):
        lifted = {key: value for key, value in params.items() if key in _RESOURCES and value is not None}
        for key in lifted.keys() - given.keys():
            for name in [name for name in origins if f"{name}.".startswith(f"processing.params.{key}.")]:
                origins[name.replace("params.", "", 1)] = origins[name]
        taken = [key for key in lifted if key not in given]
        if any(lifted[key] != "auto" for key in taken):
            place = _at(origins.get("processing.params"))
            document.notes.append(
                f"{place}{', '.join(taken)} taken from processing.params, where canVODpy 1.0 keeps them; "
                "fields directly in processing would go before them"
            )
        given = {**lifted, **given}
    for key in section:
        near = nearest(key, _RESOURCES, cutoff=0.85)
        if key not in _RESOURCES and near is not None and near not in given:
            document.notes.append(
                f"{_at(origins.get(f'processing.{key}'))}processing.{key} is not read; did you mean {near}?"
            )
    return given


def _at(origin: Origin | None) -> str:
    return f"{origin.place}: " if origin is not None and origin.place else ""
