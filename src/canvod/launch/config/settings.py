"""All settings together, where each value came from, and the JSON Schema of a settings file."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from pydantic.json_schema import GenerateJsonSchema

from canvod.launch.config.redact import shown
from canvod.launch.config.sections import IngestSettings, LaunchSettings, ProcessingSettings, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

OriginKind = Literal["default", "file", "environment", "override", "value"]
"""A default, a line of a file, an environment variable, an option of a command, a value given in Python."""


@dataclass(frozen=True)
class Origin:
    """Where one value came from.

    Parameters
    ----------
    kind : {"default", "file", "environment", "override", "value"}
        The kind of place.
    place : str, optional
        ``file:line``, ``environment variable NAME`` or the like; None for a default.
    file : str, optional
        The file, as the caller named it.
    line : int, optional
        Line of the file, counted from 1.
    """

    kind: OriginKind = "default"
    place: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        return self.place or "default"

    @property
    def prefix(self) -> str:
        """Beginning of a message about the value: ``place: ``, or nothing for a default."""
        return "" if self.place is None else f"{self.place}: "


DEFAULT = Origin()
"""The origin of a value that nobody gave."""


@dataclass(frozen=True)
class Provenance:
    """Origins by dotted field (``processing.cpu_affinity``, ``launch.read_only.0``).

    Two provenances always compare equal: settings are equal when their values are, wherever they came from.
    """

    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)
    """Where each value was given, by dotted field."""
    source: str | None = field(default=None, compare=False)
    """The file that was read, as the caller named it; None without one."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Warnings that arose while reading."""

    def of(self, name: str) -> Origin:
        """Origin of a field, or of the nearest part above it that was given.

        Parameters
        ----------
        name : str
            Dotted field.

        Returns
        -------
        Origin
            :data:`DEFAULT` where nothing was given. A section's own line is never taken for its fields.
        """
        parts = name.split(".")
        above = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
        return next((self.origins[part] for part in above if part in self.origins), DEFAULT)


class Settings(Section):
    """All settings of canvod-launch.

    Values come from :func:`canvod.launch.config.load_settings`, which also remembers where each was given.
    Other sections of a canVODpy settings file are accepted and left alone.

    Examples
    --------
    >>> Settings().processing.resource_mode
    'auto'
    >>> Settings.model_validate({"launch": {"backend": "process"}, "icechunk": {}}).launch.backend
    'process'
    """

    model_config = ConfigDict(extra="ignore", title="canvod-launch settings")

    processing: ProcessingSettings = Field(default_factory=ProcessingSettings)
    """Resources of the cluster, in canVODpy's own words."""
    launch: LaunchSettings = Field(default_factory=LaunchSettings)
    """How the cluster is carried out."""
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    """What is read from observation files and how it is stored."""
    _provenance: Provenance = PrivateAttr(default_factory=Provenance)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_defaults(cls, data: object) -> object:
        # A section whose lines are all commented out is null in YAML.
        if not isinstance(data, dict):
            return data
        kept = {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
        processing = kept.get("processing")
        if isinstance(processing, dict):
            # In canVODpy's files null stands for "not set", also where the default here is a number.
            kept["processing"] = {key: value for key, value in processing.items() if value is not None}
        return kept

    @property
    def provenance(self) -> Provenance:
        """Where the values came from; no part of the settings' equality or JSON."""
        return self._provenance

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is accepted but should be known: a value that is ignored, a name that looks misspelt."""
        warnings = self._provenance.notes
        threads = self.processing.n_max_threads
        if self.processing.resource_mode == "auto" and threads is not None:
            cited = self.cite("processing.n_max_threads")
            remedy = "write resource_mode: manual to have exactly that many workers"
            warnings = (*warnings, f"{cited} is ignored, because resource_mode is auto; {remedy}")
        return warnings

    def origin(self, name: str) -> Origin:
        """Where a field's value came from.

        Parameters
        ----------
        name : str
            Dotted field, such as ``processing.n_max_threads``.

        Returns
        -------
        Origin
            Its ``kind`` is ``default`` where nobody gave the field.
        """
        return self._provenance.of(name)

    def cite(self, name: str) -> str:
        """Name a field with its place and value, for an error message.

        Parameters
        ----------
        name : str
            Dotted field, such as ``processing.nice_priority``.

        Returns
        -------
        str
            Such as ``config/processing.yaml:12: processing.nice_priority = 10``.
        """
        value = attrgetter(name)(self)
        origin = self.origin(name)
        suffix = " (default)" if origin.place is None else ""
        return f"{origin.prefix}{name} = {shown(name, value)}{suffix}"

    def with_provenance(self, provenance: Provenance) -> Settings:
        """Return the same settings with another record of where the values came from.

        Parameters
        ----------
        provenance : Provenance
            The record.

        Returns
        -------
        Settings
            A copy that is equal to these settings.
        """
        copy = self.model_copy()
        copy._provenance = provenance  # noqa: SLF001 (its own class)
        return copy


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a settings file.

    An editor with the YAML language server uses it when the file's first line is
    ``# yaml-language-server: $schema=PATH``.

    Returns
    -------
    dict
        The schema. ``launch`` and ``ingest`` take no other keys; ``processing`` and the top level do, as they
        are shared with canVODpy.

    Examples
    --------
    >>> json_schema()["$defs"]["LaunchSettings"]["additionalProperties"]
    False
    """
    schema = Settings.model_json_schema()
    schema["$schema"] = GenerateJsonSchema.schema_dialect
    processing = schema["$defs"]["ProcessingSettings"]
    processing["if"] = {"properties": {"resource_mode": {"const": "manual"}}, "required": ["resource_mode"]}
    processing["then"] = {"required": ["n_max_threads"], "properties": {"n_max_threads": {"type": "integer"}}}
    for properties in (processing["properties"], schema["properties"]):
        for name, schema_of_field in properties.items():
            # canVODpy's files write null for a field that is not set, and YAML reads it for an empty section.
            if "anyOf" not in schema_of_field:
                properties[name] = _or_null(schema_of_field)
    return schema


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    outer: dict[str, Any] = {key: field[key] for key in ("title", "description", "default") if key in field}
    inner = {key: value for key, value in field.items() if key not in outer}
    return {"anyOf": [inner, {"type": "null"}], **outer}
