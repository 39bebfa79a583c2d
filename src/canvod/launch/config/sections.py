"""The sections of the settings as values: frozen, validated, with units in the names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from canvod.launch.config.field_types import (
    DECIMAL,
    AbsolutePath,
    Count,
    Gibibytes,
    HttpAddress,
    MountPath,
    MountPaths,
    Package,
    Rule,
    Seconds,
    VariableName,
    VariableValue,
    Word,
    distinct,
)
from canvod.launch.config.redact import hidden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Variable = Literal["SNR", "Pseudorange", "Phase", "Doppler"]
"""An observable that can be stored: dB-Hz, metres, cycles, hertz."""


class Section(BaseModel):
    """A section: its fields are described by the texts below them, which the JSON Schema repeats."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, field_title_generator=lambda name, _: name
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Hide passwords in addresses, and the values of the workers' environment."""
        for name, value in self:
            yield name, hidden(f"{self.model_config['title']}.{name}", value)


class ProcessingSettings(Section):
    """Section ``processing``: the resources, in canVODpy's own words.

    canVODpy's other keys in this section are accepted and left alone.
    """

    model_config = ConfigDict(extra="ignore", title="processing")

    resource_mode: Literal["auto", "manual"] = "auto"
    """auto: cores and memory are detected. manual: the limits below are enforced."""
    n_max_threads: Annotated[
        int | None,
        Field(ge=1, validate_default=True),
        DECIMAL,
        Rule("a whole number of at least 1", "write how many worker processes, such as n_max_threads: 4"),
    ] = None
    """Number of worker processes. Required in manual mode; auto mode ignores it and warns."""
    max_memory_gb: Annotated[
        Gibibytes | None,
        Rule("a number above 0, in GiB, for all workers together", "write it without a unit: 16"),
    ] = None
    """Memory limit of all workers together, in GiB (manual mode)."""
    threads_per_worker: Count = 1
    """Threads of each worker process."""
    cpu_affinity: Annotated[
        tuple[Annotated[NonNegativeInt, DECIMAL], ...] | None,
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
        distinct("core"),
        Rule("a list of different core IDs, such as [0, 1, 2]", "list cores (see lscpu), each once"),
    ] = None
    """IDs of the CPU cores that workers are pinned to (Linux); null sets no restriction."""
    nice_priority: Annotated[
        int,
        Field(ge=0, le=19),
        DECIMAL,
        Rule("a whole number from 0 (normal) to 19 (lowest priority)", "write 0, or up to 19 to give way"),
    ] = 0
    """Priority of the workers: 0 is normal, 19 the lowest."""
    scheduler_address: Annotated[
        str | None,
        Field(pattern=r"^((([a-z]+://)?[^\s/]+:[0-9]{1,5}/?)|(inproc://\S+))$"),
        Rule("an address such as tls://127.0.0.1:8786", "write protocol://host:port, or leave the line out"),
    ] = None
    """Address of a Dask scheduler that exists already; nothing is started then."""

    @field_validator("n_max_threads")
    @classmethod
    def _required_in_manual_mode(cls, value: int | None, info: ValidationInfo) -> int | None:
        # On the field, not on the model: so it runs even if another field is refused, and hides nothing.
        if value is None and info.data.get("resource_mode") == "manual":
            raise PydanticCustomError("missing_in_manual", "is missing, and resource_mode is manual")
        return value


class BuildSettings(Section):
    """Section ``launch.build``: what an image build needs behind a proxy or without the internet."""

    model_config = ConfigDict(title="build")

    ca_bundle: AbsolutePath | None = None
    """Certificates to trust; null takes SSL_CERT_FILE, REQUESTS_CA_BUNDLE, PIP_CERT, else the system's."""
    index_url: HttpAddress | None = None
    """Python package index; null takes pip's own settings."""
    debian_mirror: HttpAddress | None = None
    """Debian mirror; null takes apt's own settings."""


class LaunchSettings(Section):
    """Section ``launch``: how the cluster is carried out."""

    model_config = ConfigDict(title="launch")

    backend: Literal["auto", "docker", "process"] = "auto"
    """docker: containers. process: host processes. auto: docker where an engine answers."""
    python: Annotated[
        str | None,
        Field(pattern=r"^3\.(1[2-9]|[2-9][0-9])$"),
        Rule('a version such as "3.14", 3.12 or newer', 'write "3.14", in quotes, or leave the line out'),
    ] = None
    """Python minor version of the images; null takes that of whoever starts the cluster."""
    python_image: Annotated[
        Word | None, Rule("the name of an image", "write a name such as python:3.14-slim")
    ] = None
    """Base image; null takes the official python:{python}-slim."""
    packages: Annotated[
        tuple[Package, ...],
        Rule(
            "a list of requirements as pip reads them, and of absolute paths of requirements files",
            'write a name with its version, such as "numba==0.63.1", or the path of a file',
        ),
    ] = ()
    """Packages that the images have besides the locked ones."""
    user: Annotated[
        str | None,
        Field(pattern=r"^[0-9]+:[0-9]+$"),
        Rule("uid:gid in numbers, the uid not 0", 'write it like "1000:1000" (id -u, id -g)'),
    ] = None
    """uid:gid of the containers; null takes the caller's, and for root SUDO_UID:SUDO_GID or 10001:10001."""
    scheduler_memory_gb: Gibibytes = 1.0
    """Memory limit of the scheduler in GiB."""
    reserve_cores: Annotated[
        NonNegativeInt | None, DECIMAL, Rule("a whole number of at least 0", "write 0 to leave none")
    ] = None
    """Cores left to the system in auto mode; null leaves 1 where there are 3 or more."""
    reserve_memory_gb: Annotated[
        FiniteFloat | None,
        Field(ge=0),
        DECIMAL,
        Rule("a number of at least 0, in GiB", "write it without a unit: 2.0"),
    ] = None
    """Memory left to the system in auto mode, in GiB; null leaves 10 % of the machine's, at least 1 GiB."""
    cgroup_parent: Annotated[
        Word | None, Rule("the name of a slice, or of a parent group", "write a name such as canvod.slice")
    ] = None
    """Slice (systemd: *.slice) or parent group of all containers; its weight protects other users."""
    cpu_weight: Annotated[
        int | None,
        Field(ge=1, le=10000),
        DECIMAL,
        Rule("a whole number from 1 to 10000 (100 is normal)", "leave the line out to follow nice_priority"),
    ] = None
    """CPU weight of each container in the terms of cgroup v2, 100 is normal; null follows nice_priority."""
    pids_limit: Annotated[int, Field(ge=64), DECIMAL, Rule("a whole number of at least 64", "write 512")] = (
        512
    )
    """Processes and threads that one container may have; a worker and its nanny need some dozens."""
    tmp_mb: Annotated[Count, Rule("a whole number of at least 1, in MiB", "write it without a unit: 64")] = 64
    """Size of /tmp in MiB; it is memory and counts against the container's memory limit."""
    spill_gb: Gibibytes = 10.0
    """How much each worker may spill to disk, in GiB."""
    spill_dir: MountPath | None = None
    """Folder of the host to spill to; null takes a volume on the engine's disk."""
    dashboard_port: Annotated[
        int,
        Field(ge=0, le=65535),
        DECIMAL,
        Rule("a whole number from 0 (any free port) to 65535", "write 8787, or 0 for any free port"),
    ] = 8787
    """Port on 127.0.0.1 to try first for Dask's dashboard."""
    network: Literal["bridge", "internal"] = "bridge"
    """bridge: containers reach what the host reaches. internal: only each other and the host."""
    lease_grace_s: Seconds = 10.0
    """Seconds that a launcher may be away before its cluster ends by itself."""
    connect_timeout_s: Seconds = 60.0
    """Seconds for the launcher to connect at all, before its cluster ends by itself."""
    start_timeout_s: Seconds = 180.0
    """Seconds that a cluster may take to start."""
    read_only: MountPaths = ()
    """Paths of the host that workers may read."""
    writable: MountPaths = ()
    """Paths of the host that workers may read and write; none of them in read_only."""
    environment: Annotated[
        dict[VariableName, VariableValue],
        Rule("names of letters, digits and _, each with a text", 'write NAME: "value", the value in quotes'),
    ] = Field(default_factory=dict)
    """Further environment variables of the workers."""
    log_format: Literal["console", "json"] = "console"
    """Lines on stderr. console: for people. json: one object a line, messages of the command included."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important log lines to show."""
    build: Annotated[
        BuildSettings, Rule("ca_bundle, index_url and debian_mirror, indented below it", "leave it out")
    ] = Field(default_factory=BuildSettings)
    """What an image build needs from the network."""

    @field_validator("user")
    @classmethod
    def _never_root(cls, value: str | None) -> str | None:
        if value is not None and re.match(r"0+:", value):
            raise PydanticCustomError("root_user", "is root; containers never run as root")
        return value

    @field_validator("writable")
    @classmethod
    def _not_read_only_too(cls, value: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
        both = [str(path) for path in value if path in info.data.get("read_only", ())]
        if both:
            raise PydanticCustomError(
                "both_ways", "names {paths}, which is in read_only too", {"paths": ", ".join(both)}
            )
        return value


OnChange = Literal["skip", "replace", "fail"]


class IngestSettings(Section):
    """Section ``ingest``: what is read from observation files and how it is stored."""

    model_config = ConfigDict(title="ingest")

    variables: Annotated[
        tuple[Variable, ...],
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
        distinct("variable"),
        Rule("a list of SNR, Pseudorange, Phase and Doppler, each at most once", "write [SNR], or add to it"),
    ] = ("SNR",)
    """Observables to store: SNR (dB-Hz), Pseudorange (m), Phase (cycles), Doppler (Hz)."""
    reader: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
        Rule("rinex, canvod or another installed reader", "write rinex, which reads RINEX 2, 3 and 4"),
    ] = "rinex"
    """Reader of files: rinex, canvod (canvod-readers: SBF, NMEA, RINEX), or another that is installed."""
    mixed_stations: Annotated[
        bool, Rule("true or false", "write true to store files of several stations in one group")
    ] = False
    """Whether one group may hold files of several stations."""
    chunk: Annotated[
        tuple[Count, Count] | None, Rule("[epochs, signals], or null", "write null, which fits most files")
    ] = None
    """Epochs and signals of a chunk of a new group; null fits them to a day of its files (1 to 16 MiB)."""
    commit_every: Annotated[
        str,
        Field(pattern=r"^[1-9][0-9]* (day|minute)s?$"),
        Rule("a number of days or minutes, such as 30 days", "write 10 minutes"),
    ] = "10 minutes"
    """After how many days of data, or minutes, what is there is committed."""
    on_change: Annotated[OnChange, Rule("skip, replace or fail", "write replace")] = "replace"
    """What to do with a file that has changed since it was stored: skip, replace what it gave, or fail."""
    retry_failed: Annotated[bool, Rule("true or false", "write true to read such files again")] = False
    """Whether files that could not be read are read again although they are as they were."""
    compression_level: Annotated[
        int, Field(ge=1, le=22), DECIMAL, Rule("a whole number from 1 (fast) to 22 (small)", "write 3")
    ] = 3
    """Level of the zstd compression."""

    @field_validator("reader")
    @classmethod
    def _still_a_reader(cls, value: str) -> str:
        if value in {"auto", "georinex"}:
            raise PydanticCustomError("former_reader", "is no reader any more")
        return value
