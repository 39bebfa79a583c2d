"""All settings together, with the record of where each value came from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from canvod.launch.config.models import IngestSettings, LaunchSettings, ProcessingSettings
from canvod.launch.config.provenance import Origin, Provenance
from canvod.launch.config.redact import shown


class Settings(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="ignore", title="canvod-launch settings")

    processing: ProcessingSettings = Field(
        default_factory=ProcessingSettings,
        description="Resources of the cluster, in canVODpy's own words.",
        validate_default=True,
    )
    launch: LaunchSettings = Field(
        default_factory=LaunchSettings, description="How the cluster is carried out."
    )
    ingest: IngestSettings = Field(
        default_factory=IngestSettings,
        description="What is read from observation files and how it is stored.",
    )
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

    def locate(self, name: str) -> str | None:
        """Place of a field's value, for an error message.

        Parameters
        ----------
        name : str
            Dotted field, such as ``processing.cpu_affinity``.

        Returns
        -------
        str or None
            ``config/processing.yaml:12``, ``environment variable CANVOD_…``, or None for a default.
        """
        return self.origin(name).place

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
        value: Any = self
        for part in name.split("."):
            if isinstance(value, BaseModel):
                value = getattr(value, part)
            else:
                value = value[part] if isinstance(value, dict) else value[int(part)]
        text = f"{name} = {shown(name, value)}"
        place = self.locate(name)
        return f"{text} (default)" if place is None else f"{place}: {text}"

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
