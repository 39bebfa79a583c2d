"""The settings as values: frozen, validated, with units in the names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from canvod.launch.config.fields import (
    AbsolutePath,
    Amount,
    MountPath,
    Rule,
    Text,
    VariableName,
    VariableValue,
    Whole,
)
from canvod.launch.config.provenance import Origin, Provenance
from canvod.launch.config.redact import HIDDEN, shown, without_password

Variable = Literal["SNR", "Pseudorange", "Phase", "Doppler"]
"""An observable that can be stored: dB-Hz, metres, cycles, hertz."""


class ProcessingSettings(BaseModel):
    """Section ``processing``: the resources, in canVODpy's own words.

    canVODpy's other keys in this section are accepted and left alone.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", title="processing")

    resource_mode: Annotated[
        Literal["auto", "manual"],
        Rule("auto or manual", "write auto to have cores and memory detected, or manual to set limits"),
    ] = Field("auto", description="auto: cores and memory are detected. manual: the limits below are enforced.")
    n_max_threads: Annotated[
        Whole | None,
        Rule("a whole number of at least 1", "write the number of worker processes, such as n_max_threads: 4"),
    ] = Field(
        None,
        ge=1,
        validate_default=True,
        description="Number of worker processes. Required in manual mode, ignored with a warning in auto mode.",
    )
    max_memory_gb: Annotated[
        Amount | None,
        Rule("a number above 0, in GB (1024**3 bytes), for all workers together", "write it without a unit: 16"),
    ] = Field(None, gt=0, description="Memory limit of all workers together, in GB of 1024**3 bytes (manual mode).")
    threads_per_worker: Annotated[
        Whole, Rule("a whole number of at least 1", "write 1, or leave the line out")
    ] = Field(1, ge=1, description="Threads of each worker process.")
    cpu_affinity: Annotated[
        tuple[Annotated[Whole, Field(ge=0)], ...] | None,
        Rule("a list of different core IDs, each 0 or more, such as [0, 1, 2, 3]",
             "list the cores to use, each once (lscpu shows their IDs), or leave the line out"),
    ] = Field(
        None,
        min_length=1,
        description="IDs of the CPU cores that workers are pinned to (Linux); null sets no restriction.",
        json_schema_extra={"uniqueItems": True},
    )
    nice_priority: Annotated[
        Whole,
        Rule("a whole number from 0 (normal) to 19 (lowest priority)",
             "write 0, or up to 19 to give way to other people's work; a cluster never goes before others"),
    ] = Field(0, ge=0, le=19, description="Priority of the workers: 0 is normal, 19 the lowest.")
    scheduler_address: Annotated[
        str | None,
        Rule("the address of a Dask scheduler, such as tcp://127.0.0.1:8786",
             "write protocol://host:port, or leave the line out to have a cluster started"),
    ] = Field(
        None,
        pattern=r"^((([a-z]+://)?[^\s/]+:[0-9]{1,5}/?)|(inproc://\S+))$",
        description="Address of a Dask scheduler that exists already; nothing is started then.",
    )

    @field_validator("n_max_threads")
    @classmethod
    def _required_in_manual_mode(cls, value: int | None, info: ValidationInfo) -> int | None:
        # On the field, not on the model: pydantic runs it even if another field is refused, so nothing is hidden.
        if value is None and info.data.get("resource_mode") == "manual":
            raise PydanticCustomError("missing_in_manual", "is missing, and resource_mode is manual")
        return value

    @field_validator("cpu_affinity")
    @classmethod
    def _each_core_once(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return _distinct(value, "core")


class BuildSettings(BaseModel):
    """Section ``launch.build``: what an image build needs behind a proxy, a mirror or without the internet."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="build")

    ca_bundle: Annotated[
        AbsolutePath | None,
        Rule("the absolute path of a PEM file", "write a path that starts with / or ~, or leave the line out"),
    ] = Field(
        None,
        description="Certificates that downloads trust during a build; "
        "null takes SSL_CERT_FILE, REQUESTS_CA_BUNDLE or PIP_CERT.",
    )
    index_url: Annotated[
        str | None,
        Rule("the http(s) address of a Python package index", "write https://…/simple, or leave the line out"),
    ] = Field(None, pattern=r"^https?://\S+$", description="Python package index; null takes pip's own settings.")
    debian_mirror: Annotated[
        str | None,
        Rule("the http(s) address of a Debian mirror", "write http://…/debian, or leave the line out"),
    ] = Field(None, pattern=r"^https?://\S+$", description="Debian mirror; null takes apt's own settings.")

    def __repr_args__(self) -> Any:
        """Hide a password in an address."""
        return [(name, without_password(value) if isinstance(value, str) else value) for name, value in self]


class LaunchSettings(BaseModel):
    """Section ``launch``: how the cluster is carried out."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="launch")

    backend: Annotated[
        Literal["auto", "docker", "process"],
        Rule("auto, docker or process", "write auto to have containers where an engine answers"),
    ] = Field(
        "auto",
        description="docker: containers. process: processes of this host. auto: docker where an engine answers.",
    )
    python: Annotated[
        str, Rule('a Python version such as "3.14", 3.12 or newer', 'write "3.14", in quotes')
    ] = Field("3.14", pattern=r"^3\.(1[2-9]|[2-9][0-9])$", description="Python minor version of the images.")
    python_image: Annotated[
        Text | None, Rule("the name of an image", "write a name such as python:3.14-slim, or leave the line out")
    ] = Field(None, description="Base image; null takes the official python:{python}-slim.")
    user: Annotated[
        str | None,
        Rule("uid:gid in numbers, the uid not 0", 'write it as "1000:1000" (id -u, id -g), or leave the line out'),
    ] = Field(
        None,
        pattern=r"^[0-9]+:[0-9]+$",
        description="uid:gid of the containers; null takes the caller's, for root SUDO_UID:SUDO_GID or 10001:10001.",
    )
    scheduler_memory_gb: Annotated[
        Amount, Rule("a number above 0, in GB (1024**3 bytes)", "write it without a unit: 1.0")
    ] = Field(1.0, gt=0, description="Memory cap of the scheduler in GB of 1024**3 bytes.")
    reserve_cores: Annotated[
        Whole | None, Rule("a whole number of at least 0", "write 0 to leave none, or leave the line out")
    ] = Field(
        None, ge=0, description="Cores left to the system in auto mode; null leaves 1 where there are 3 or more."
    )
    reserve_memory_gb: Annotated[
        Amount | None,
        Rule("a number of at least 0, in GB (1024**3 bytes)", "write it without a unit: 2.0, or leave the line out"),
    ] = Field(
        None,
        ge=0,
        description="Memory left to the system in auto mode, in GB of 1024**3 bytes; "
        "null leaves 10 % of the machine's memory, at least 1 GB.",
    )
    cgroup_parent: Annotated[
        Text | None,
        Rule("the name of a slice, or of a parent group", "write a name such as canvod.slice, or leave the line out"),
    ] = Field(
        None,
        description="Slice (systemd: ends in .slice) or parent group of all containers, whose weight is what "
        "protects the host's other users.",
    )
    cpu_weight: Annotated[
        Whole | None,
        Rule("a whole number from 1 to 10000 (100 is normal)", "leave the line out to derive it from nice_priority"),
    ] = Field(
        None,
        ge=1,
        le=10000,
        description="CPU weight of each container in the terms of cgroup v2, 100 is normal; "
        "null derives it from nice_priority.",
    )
    pids_limit: Annotated[
        Whole, Rule("a whole number of at least 64", "write 512; a worker and its nanny need some dozens")
    ] = Field(512, ge=64, description="Processes and threads that one container may have.")
    tmp_mb: Annotated[
        Whole, Rule("a whole number of at least 1, in MB (1024**2 bytes)", "write it without a unit: 64")
    ] = Field(64, ge=1, description="Size of /tmp in MB of 1024**2 bytes; it is memory and counts against the cap.")
    spill_gb: Annotated[
        Amount, Rule("a number above 0, in GB (1024**3 bytes)", "write it without a unit: 10.0")
    ] = Field(10.0, gt=0, description="How much each worker may spill to disk, in GB of 1024**3 bytes.")
    spill_dir: Annotated[
        MountPath | None,
        Rule("the absolute path of a folder", "write a path that starts with / or ~, or leave the line out"),
    ] = Field(None, description="Folder of the host to spill to; null takes a volume on the engine's disk.")
    dashboard_port: Annotated[
        Whole, Rule("a whole number from 0 (any free port) to 65535", "write 8787, or 0 for any free port")
    ] = Field(8787, ge=0, le=65535, description="Port on 127.0.0.1 to try first for Dask's dashboard.")
    start_timeout_s: Annotated[
        Amount, Rule("a number above 0, in seconds", "write it without a unit: 60")
    ] = Field(60.0, gt=0, description="Seconds that a cluster may take to start.")
    read_only: Annotated[
        tuple[MountPath, ...],
        Rule("a list of absolute paths other than /", "write each path from the root: [/data/gnss]"),
    ] = Field((), description="Paths of the host that workers may read.")
    writable: Annotated[
        tuple[MountPath, ...],
        Rule("a list of absolute paths other than /, none of them in read_only",
             "write each path from the root: [/data/stores]"),
    ] = Field((), description="Paths of the host that workers may read and write.")
    environment: Annotated[
        dict[VariableName, VariableValue],
        Rule("names of letters, digits and _, each with a text", 'write NAME: "value", the value in quotes'),
    ] = Field(default_factory=dict, description="Further environment variables of the workers.")
    log_format: Annotated[
        Literal["auto", "console", "json"], Rule("auto, console or json", "write auto")
    ] = Field("auto", description="Log lines on stderr; auto: console on a terminal, else JSON lines.")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Rule("debug, info, warning or error", "write info")
    ] = Field("info", description="The least important log lines to show.")
    build: Annotated[
        BuildSettings, Rule("ca_bundle, index_url and debian_mirror, indented below it", "leave the section out")
    ] = Field(default_factory=BuildSettings, description="What an image build needs from the network.")

    @field_validator("user")
    @classmethod
    def _never_root(cls, value: str | None) -> str | None:
        if value is not None and re.match(r"0+:", value):
            raise PydanticCustomError("root_user", "is root; containers never run as root")
        return value

    @field_validator("read_only")
    @classmethod
    def _each_input_once(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return _distinct(value, "path") or ()

    @field_validator("writable")
    @classmethod
    def _not_read_only_too(cls, value: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
        for path in value:
            if path in info.data.get("read_only", ()):
                raise PydanticCustomError("both_ways", "names {path}, which is in read_only too", {"path": str(path)})
        return _distinct(value, "path") or ()

    def __repr_args__(self) -> Any:
        """Hide the values of the workers' environment, which may be secrets."""
        return [(name, dict.fromkeys(value, HIDDEN) if name == "environment" else value) for name, value in self]


class IngestSettings(BaseModel):
    """Section ``ingest``: what is read from observation files and how it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="ingest")

    variables: Annotated[
        tuple[Variable, ...],
        Rule("a list of SNR, Pseudorange, Phase and Doppler, each at most once", "write [SNR], or add others to it"),
    ] = Field(
        ("SNR",),
        min_length=1,
        description="Observables to store: SNR (dB-Hz), Pseudorange (m), Phase (cycles), Doppler (Hz).",
        json_schema_extra={"uniqueItems": True},
    )
    reader: Annotated[
        Literal["auto", "canvod", "georinex"],
        Rule("auto, canvod or georinex", "write auto to take the first reader that the workers have"),
    ] = Field("auto", description="Reader of observation files; auto takes the first that the workers can import.")
    chunk_epochs: Annotated[
        Whole | None, Rule("a whole number of at least 1", "leave the line out to have it taken from the files")
    ] = Field(None, ge=1, description="Epochs in one chunk; null takes as many as most of the files have.")
    compression_level: Annotated[
        Whole, Rule("a whole number from 1 (fast) to 22 (small)", "write 3")
    ] = Field(3, ge=1, le=22, description="Level of the zstd compression.")

    @field_validator("variables")
    @classmethod
    def _each_variable_once(cls, value: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return _distinct(value, "variable") or ()


class Settings(BaseModel):
    """All settings of canvod-launch.

    Values come from :func:`canvod.launch.config.load_settings`, which also remembers where each was given. Other
    sections of a canVODpy settings file are accepted and left alone.

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
        default_factory=IngestSettings, description="What is read from observation files and how it is stored."
    )
    _provenance: Provenance = PrivateAttr(default_factory=Provenance)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_defaults(cls, data: Any) -> Any:
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
            warnings += (
                f"{self.cite('processing.n_max_threads')} is ignored, because resource_mode is auto; "
                "write resource_mode: manual to have exactly that many workers",
            )
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
            value = getattr(value, part)
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
        copy._provenance = provenance
        return copy


def _distinct[T](values: tuple[T, ...] | None, noun: str) -> tuple[T, ...] | None:
    repeated = sorted({str(value) for value in values or () if (values or ()).count(value) > 1})
    if repeated:
        raise PydanticCustomError(
            "repeated", "names {noun} {repeated} more than once", {"noun": noun, "repeated": ", ".join(repeated)}
        )
    return values
