"""The sections of the settings as values: frozen, validated, with units in the names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from canvod.launch.config.fields import (
    AbsolutePath,
    Amount,
    MountPath,
    Package,
    Rule,
    Text,
    VariableName,
    VariableValue,
    Whole,
)
from canvod.launch.config.redact import HIDDEN, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    ] = Field(
        "auto", description="auto: cores and memory are detected. manual: the limits below are enforced."
    )
    n_max_threads: Annotated[
        Whole | None,
        Rule(
            "a whole number of at least 1", "write the number of worker processes, such as n_max_threads: 4"
        ),
    ] = Field(
        None,
        ge=1,
        validate_default=True,
        description="Number of worker processes. Required in manual mode; auto mode ignores it and warns.",
    )
    max_memory_gb: Annotated[
        Amount | None,
        Rule("a number above 0, in GiB, for all workers together", "write it without a unit: 16"),
    ] = Field(None, gt=0, description="Memory limit of all workers together, in GiB (manual mode).")
    threads_per_worker: Annotated[
        Whole, Rule("a whole number of at least 1", "write 1, or leave the line out")
    ] = Field(1, ge=1, description="Threads of each worker process.")
    cpu_affinity: Annotated[
        tuple[Annotated[Whole, Field(ge=0)], ...] | None,
        Rule(
            "a list of different core IDs, each 0 or more, such as [0, 1, 2, 3]",
            "list the cores to use, each once (lscpu shows their IDs), or leave the line out",
        ),
    ] = Field(
        None,
        min_length=1,
        description="IDs of the CPU cores that workers are pinned to (Linux); null sets no restriction.",
        json_schema_extra={"uniqueItems": True},
    )
    nice_priority: Annotated[
        Whole,
        Rule(
            "a whole number from 0 (normal) to 19 (lowest priority)",
            "write 0, or up to 19 to give way to other people's work; a cluster never goes before others",
        ),
    ] = Field(0, ge=0, le=19, description="Priority of the workers: 0 is normal, 19 the lowest.")
    scheduler_address: Annotated[
        str | None,
        Rule(
            "the address of a Dask scheduler, such as tls://127.0.0.1:8786",
            "write protocol://host:port, or leave the line out to have a cluster started",
        ),
    ] = Field(
        None,
        pattern=r"^((([a-z]+://)?[^\s/]+:[0-9]{1,5}/?)|(inproc://\S+))$",
        description="Address of a Dask scheduler that exists already; nothing is started then.",
    )

    @field_validator("n_max_threads")
    @classmethod
    def _required_in_manual_mode(cls, value: int | None, info: ValidationInfo) -> int | None:
        # On the field, not on the model: so it runs even if another field is refused, and hides nothing.
        if value is None and info.data.get("resource_mode") == "manual":
            raise PydanticCustomError("missing_in_manual", "is missing, and resource_mode is manual")
        return value

    @field_validator("cpu_affinity")
    @classmethod
    def _each_core_once(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return _distinct(value, "core")


class BuildSettings(BaseModel):
    """Section ``launch.build``: what an image build needs behind a proxy or without the internet."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="build")

    ca_bundle: Annotated[
        AbsolutePath | None,
        Rule(
            "the absolute path of a PEM file", "write a path that starts with / or ~, or leave the line out"
        ),
    ] = Field(
        None,
        description="Certificates that downloads trust during a build; "
        "null takes SSL_CERT_FILE, REQUESTS_CA_BUNDLE or PIP_CERT, else what the system trusts.",
    )
    index_url: Annotated[
        str | None,
        Rule(
            "the http(s) address of a Python package index", "write https://…/simple, or leave the line out"
        ),
    ] = Field(
        None, pattern=r"^https?://\S+$", description="Python package index; null takes pip's own settings."
    )
    debian_mirror: Annotated[
        str | None,
        Rule("the http(s) address of a Debian mirror", "write http://…/debian, or leave the line out"),
    ] = Field(None, pattern=r"^https?://\S+$", description="Debian mirror; null takes apt's own settings.")

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Hide a password in an address."""
        for name, value in self:
            yield name, without_password(value) if isinstance(value, str) else value


class LaunchSettings(BaseModel):
    """Section ``launch``: how the cluster is carried out."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="launch")

    backend: Annotated[
        Literal["auto", "docker", "process"],
        Rule("auto, docker or process", "write auto to have containers where an engine answers"),
    ] = Field(
        "auto",
        description="docker: containers. process: host processes. auto: docker where an engine answers.",
    )
    python: Annotated[
        str | None,
        Rule(
            'a Python version such as "3.14", 3.12 or newer',
            'write "3.14", in quotes, or leave the line out to have that of whoever starts the cluster',
        ),
    ] = Field(
        None,
        pattern=r"^3\.(1[2-9]|[2-9][0-9])$",
        description="Python minor version of the images; null takes that of whoever starts the cluster.",
    )
    python_image: Annotated[
        Text | None,
        Rule("the name of an image", "write a name such as python:3.14-slim, or leave the line out"),
    ] = Field(None, description="Base image; null takes the official python:{python}-slim.")
    packages: Annotated[
        tuple[Package, ...],
        Rule(
            "a list of requirements as pip reads them, and of absolute paths of requirements files",
            'write a name with its version, such as "numba==0.63.1", or the path of a file',
        ),
    ] = Field((), description="Packages that the images have besides the locked ones.")
    user: Annotated[
        str | None,
        Rule(
            "uid:gid in numbers, the uid not 0",
            'write it as "1000:1000" (id -u, id -g), or leave the line out',
        ),
    ] = Field(
        None,
        pattern=r"^[0-9]+:[0-9]+$",
        description="uid:gid of the containers; null takes the caller's, "
        "and for root SUDO_UID:SUDO_GID or 10001:10001.",
    )
    scheduler_memory_gb: Annotated[
        Amount, Rule("a number above 0, in GiB", "write it without a unit: 1.0")
    ] = Field(1.0, gt=0, description="Memory cap of the scheduler in GiB.")
    reserve_cores: Annotated[
        Whole | None, Rule("a whole number of at least 0", "write 0 to leave none, or leave the line out")
    ] = Field(
        None,
        ge=0,
        description="Cores left to the system in auto mode; null leaves 1 where there are 3 or more.",
    )
    reserve_memory_gb: Annotated[
        Amount | None,
        Rule(
            "a number of at least 0, in GiB",
            "write it without a unit: 2.0, or leave the line out",
        ),
    ] = Field(
        None,
        ge=0,
        description="Memory left to the system in auto mode, in GiB; "
        "null leaves 10 % of the machine's memory, at least 1 GiB.",
    )
    cgroup_parent: Annotated[
        Text | None,
        Rule(
            "the name of a slice, or of a parent group",
            "write a name such as canvod.slice, or leave the line out",
        ),
    ] = Field(
        None,
        description="Slice (systemd: ends in .slice) or parent group of all containers, whose weight is what "
        "protects the host's other users.",
    )
    cpu_weight: Annotated[
        Whole | None,
        Rule(
            "a whole number from 1 to 10000 (100 is normal)",
            "leave the line out to derive it from nice_priority",
        ),
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
    tmp_mb: Annotated[Whole, Rule("a whole number of at least 1, in MiB", "write it without a unit: 64")] = (
        Field(64, ge=1, description="Size of /tmp in MiB; it is memory and counts against the cap.")
    )
    spill_gb: Annotated[Amount, Rule("a number above 0, in GiB", "write it without a unit: 10.0")] = Field(
        10.0, gt=0, description="How much each worker may spill to disk, in GiB."
    )
    spill_dir: Annotated[
        MountPath | None,
        Rule("the absolute path of a folder", "write a path that starts with / or ~, or leave the line out"),
    ] = Field(None, description="Folder of the host to spill to; null takes a volume on the engine's disk.")
    dashboard_port: Annotated[
        Whole, Rule("a whole number from 0 (any free port) to 65535", "write 8787, or 0 for any free port")
    ] = Field(8787, ge=0, le=65535, description="Port on 127.0.0.1 to try first for Dask's dashboard.")
    network: Annotated[
        Literal["bridge", "internal"],
        Rule("bridge or internal", "write internal to leave containers no way to any other network"),
    ] = Field(
        "bridge",
        description="bridge: containers reach what the host reaches. internal: only each other and the host.",
    )
    lease_grace_s: Annotated[Amount, Rule("a number above 0, in seconds", "write it without a unit: 10")] = (
        Field(
            10.0,
            gt=0,
            description="Seconds that a launcher may be away before its cluster ends by itself.",
        )
    )
    connect_timeout_s: Annotated[
        Amount, Rule("a number above 0, in seconds", "write it without a unit: 60")
    ] = Field(
        60.0,
        gt=0,
        description="Seconds for the launcher to connect at all, before its cluster ends by itself.",
    )
    start_timeout_s: Annotated[
        Amount, Rule("a number above 0, in seconds", "write it without a unit: 180")
    ] = Field(180.0, gt=0, description="Seconds that a cluster may take to start.")
    read_only: Annotated[
        tuple[MountPath, ...],
        Rule("a list of absolute paths other than /", "write each path from the root: [/data/gnss]"),
    ] = Field((), description="Paths of the host that workers may read.")
    writable: Annotated[
        tuple[MountPath, ...],
        Rule(
            "a list of absolute paths other than /, none of them in read_only",
            "write each path from the root: [/data/stores]",
        ),
    ] = Field((), description="Paths of the host that workers may read and write.")
    environment: Annotated[
        dict[VariableName, VariableValue],
        Rule("names of letters, digits and _, each with a text", 'write NAME: "value", the value in quotes'),
    ] = Field(default_factory=dict, description="Further environment variables of the workers.")
    log_format: Annotated[Literal["auto", "console", "json"], Rule("auto, console or json", "write auto")] = (
        Field("auto", description="Log lines on stderr; auto: console on a terminal, else JSON lines.")
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Rule("debug, info, warning or error", "write info")
    ] = Field("info", description="The least important log lines to show.")
    build: Annotated[
        BuildSettings,
        Rule("ca_bundle, index_url and debian_mirror, indented below it", "leave the section out"),
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
                raise PydanticCustomError(
                    "both_ways", "names {path}, which is in read_only too", {"path": str(path)}
                )
        return _distinct(value, "path") or ()

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Hide the values of the workers' environment, which may be secrets."""
        for name, value in self:
            yield name, dict.fromkeys(value, HIDDEN) if name == "environment" else value


class IngestSettings(BaseModel):
    """Section ``ingest``: what is read from observation files and how it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="ingest")

    variables: Annotated[
        tuple[Variable, ...],
        Rule(
            "a list of SNR, Pseudorange, Phase and Doppler, each at most once",
            "write [SNR], or add others to it",
        ),
    ] = Field(
        ("SNR",),
        min_length=1,
        description="Observables to store: SNR (dB-Hz), Pseudorange (m), Phase (cycles), Doppler (Hz).",
        json_schema_extra={"uniqueItems": True},
    )
    reader: Annotated[
        str,
        Rule(
            "rinex, canvod, or the name of another reader that is installed where the files are read",
            "write rinex, which reads RINEX 2, 3 and 4, or leave the line out",
        ),
    ] = Field(
        "rinex",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Reader of observation files: rinex, canvod (canvod-readers: SBF, NMEA, RINEX), or the "
        "name of another that is installed.",
    )
    mixed_stations: Annotated[
        bool, Rule("true or false", "write true to store files of several stations in one group")
    ] = Field(default=False, description="Whether one group may hold files of several stations.")
    chunk_epochs: Annotated[
        Whole | None,
        Rule("a whole number of at least 1", "leave the line out to have it taken from the files"),
    ] = Field(None, ge=1, description="Epochs in one chunk; null takes as many as most of the files have.")
    compression_level: Annotated[Whole, Rule("a whole number from 1 (fast) to 22 (small)", "write 3")] = (
        Field(3, ge=1, le=22, description="Level of the zstd compression.")
    )

    @field_validator("reader")
    @classmethod
    def _still_a_reader(cls, value: str) -> str:
        if value in {"auto", "georinex"}:
            raise PydanticCustomError("former_reader", "is no reader any more")
        return value

    @field_validator("variables")
    @classmethod
    def _each_variable_once(cls, value: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return _distinct(value, "variable") or ()


def _distinct[T](values: tuple[T, ...] | None, noun: str) -> tuple[T, ...] | None:
    repeated = sorted({str(value) for value in values or () if (values or ()).count(value) > 1})
    if repeated:
        raise PydanticCustomError(
            "repeated",
            "names {noun} {repeated} more than once",
            {"noun": noun, "repeated": ", ".join(repeated)},
        )
    return values
