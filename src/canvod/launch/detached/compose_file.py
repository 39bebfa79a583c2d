"""A plan as a file for ``docker compose``: the launcher's containers, each as a service of its own.

Pure. `canvod.launch.docker.create_request` says what a container is, this module only translates it, so
that both ways start the same containers. What differs, and why:

- Keys come from volumes, which an init service fills once, not through standard input into a tmpfs.
- Containers are started again after a failure, and are not removed when they end: the cluster is detached.
- The scheduler's port is published too, on 127.0.0.1: clients of a detached cluster come from anywhere here.
- Compose has no field for ``CpusetMems``: memory may come from any NUMA node.

`canvod.launch.detached.compose_template` makes compose.yaml of the same services.
"""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

import yaml

from canvod.launch.cluster.tls import ROLES, tls_environment
from canvod.launch.docker.create_request import create_request, network_options
from canvod.launch.errors import PlanError
from canvod.launch.host.labels import DETACHED_LABEL, LABEL_PREFIX, OWNER_LABEL, ROLE_LABEL, UID_LABEL
from canvod.launch.plan.model import DASHBOARD_PORT, KEYS_PATH, SCHEDULER_HOST, SCHEDULER_PORT
from canvod.launch.plan.sizing import MIN_SCHEDULER_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

REFUSAL: Final = (
    "${COMPOSE_PROJECT_NAME:?This is docker-compose 1. canvod-launch needs Compose 2, "
    'which is called "docker compose". See https://docs.docker.com/compose/install}'
)
"""Value of a label: Compose 2 sets the variable, docker-compose 1 stops with the message."""

HEALTHCHECK: Final = {
    "test": ["CMD", "python", "-m", "canvod.launch.runtime.health"],
    "interval": "5s",
    "timeout": "30s",
    "retries": 3,
}
RESTART: Final = "on-failure"

NOT_ROOT: Final = "CANVOD_USER-is-not-root"
"""Service of compose.yaml that fails for root; a written plan has another user already."""

_NAMES: Final = {
    "CpusetCpus": "cpuset",
    "Memory": "mem_limit",
    "MemorySwap": "memswap_limit",
    "PidsLimit": "pids_limit",
    "OomScoreAdj": "oom_score_adj",
    "Init": "init",
    "ReadonlyRootfs": "read_only",
    "CapDrop": "cap_drop",
    "SecurityOpt": "security_opt",
    "CpuShares": "cpu_shares",
    "CgroupParent": "cgroup_parent",
    "GroupAdd": "group_add",
}
"""Compose's names of fields of ``HostConfig``."""

_TRANSLATED: Final = frozenset({"Tmpfs", "Mounts", "LogConfig", "PortBindings"})
_DIFFERENT: Final = frozenset({"NetworkMode", "AutoRemove", "RestartPolicy", "CpusetMems"})


_LINE_LENGTH: Final = 130
"""Most characters that a collection may have in Python's notation to be written in one line."""

_TAG: Final = "tag:yaml.org,2002:"

_COMMENTS: Final = {
    NOT_ROOT: "Ends with 1 for root. Its name is all that docker compose up --detach shows of a failure.",
    "keys": "Makes the keys, once, and ends. A volume for each role: no container sees another one's key.",
    "scheduler": "Port 8786 is for clients that have a certificate of this cluster.\n"
    "The dashboard, 8787, asks for none: everybody who has an account on this host can look at it.",
    "ingest": "The main job, a client of the cluster above; its options follow the name of the service.",
}


def compose_text(plan: ClusterPlan, *, settings_file: str | None = None) -> str:
    """Write a plan as a Compose file.

    Parameters
    ----------
    plan : ClusterPlan
        A plan of a detached cluster of containers.
    settings_file : str, optional
        Absolute path of the settings, which an ingest follows as well.

    Returns
    -------
    str
        YAML, with a heading that says how to use it.

    Raises
    ------
    PlanError
        If the plan is another one.
    """
    heading = f"""\
The cluster {plan.name}, each worker a service of its own. Written by canvod-launch compose for this host;
changed settings need a new one. The images are made by canvod-launch build. Then:

  docker compose --file compose.pinned.yaml up --detach
  docker compose --file compose.pinned.yaml run --rm ingest INPUT --store PATH --group GROUP

An ingest reads and writes what launch.read_only and launch.writable name, under the same paths.
"""
    for note in compose_notes(plan):
        heading += f"\n{note}\n"
    return write_yaml(compose_file(plan, settings_file=settings_file), heading)


def write_yaml(document: dict[str, Any], heading: str) -> str:
    """Write the contents of a Compose file, what all services have alike only once.

    Parameters
    ----------
    document : dict
        As `compose_file` returns it.
    heading : str
        Becomes the comment above it.
    """
    services = document["services"]
    first, *others = services.values()
    shared = {
        field: value for field, value in first.items() if all(other.get(field) == value for other in others)
    }
    parts = [
        f"{_comment(heading)}name: {document['name']}\n",
        "# What every container has, as canvod-launch itself starts them.\nx-container: &container\n"
        + indent(_yaml(shared), "  "),
        "services:",
    ]
    for name, service in services.items():
        own = _yaml({field: value for field, value in service.items() if field not in shared})
        text = f"{_comment(_COMMENTS.get(name, ''))}{name}:\n  <<: *container\n{indent(own, '  ')}"
        parts.append(indent(text, "  "))
    parts += [_yaml({section: document[section]}) for section in ("networks", "volumes")]
    return "\n".join(parts)


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.dump(_Block(content), Dumper=_Dumper, sort_keys=False, width=1000)
    return text


class _Block(dict[str, Any]):
    """A mapping that is written with each field in a line of its own."""


class _Dumper(yaml.SafeDumper):
    """Writes each collection that fits into one line, and strings of several lines as they are."""


def _fits(collection: dict[str, Any] | list[Any]) -> bool:
    return len(str(collection)) <= _LINE_LENGTH


_Dumper.add_representer(_Block, lambda to, held: to.represent_mapping(_TAG + "map", held, flow_style=False))
_Dumper.add_representer(
    dict, lambda to, held: to.represent_mapping(_TAG + "map", held, flow_style=_fits(held))
)
_Dumper.add_representer(
    list, lambda to, held: to.represent_sequence(_TAG + "seq", held, flow_style=_fits(held))
)
_Dumper.add_representer(
    str, lambda to, held: to.represent_scalar(_TAG + "str", held, "|" if "\n" in held else None)
)


def compose_notes(plan: ClusterPlan) -> list[str]:
    """Say what of a plan a Compose file cannot express.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.
    """
    nodes = sorted({node for each in (plan.scheduler, *plan.workers) for node in each.cpuset_mems})
    if not nodes:
        return []
    bound = f"the launcher binds them to {', '.join(map(str, nodes))}"
    return [
        f"Compose has no field for the NUMA nodes of memory (CpusetMems): pages come from any node; {bound}."
    ]


def compose_file(plan: ClusterPlan, *, settings_file: str | None = None) -> dict[str, Any]:
    """Turn a plan into the contents of a Compose file.

    Parameters
    ----------
    plan : ClusterPlan
        A plan of a detached cluster of containers.
    settings_file : str, optional
        Absolute path of the settings, which an ingest follows as well.

    Returns
    -------
    dict
        Ready to be written as YAML.

    Raises
    ------
    PlanError
        If the plan is another one.
    """
    if plan.backend != "docker" or not plan.detached:
        raise PlanError(
            "Only a plan of a detached cluster of containers can be written for docker compose.",
            hint="leave out processing.scheduler_address",
        )
    services = {"keys": _keys_service(plan)}
    for container in (plan.scheduler, *plan.workers):
        services[container.dask_name] = _service(container, plan)
    services["ingest"] = _ingest_service(plan, settings_file)
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    found = _escaped(
        {
            "name": plan.network.name,
            "services": services,
            "networks": {
                "default": {
                    "name": plan.network.name,
                    "internal": plan.network.internal,
                    "driver_opts": network_options(),
                    "labels": _without_owner(plan.network.labels),
                }
            },
            "volumes": {mount["source"]: {} for mount in mounts if mount["type"] == "volume"},
        }
    )
    found["services"]["keys"]["labels"][f"{LABEL_PREFIX}.compose"] = REFUSAL
    return dict(found)


def _service(container: ContainerPlan, plan: ClusterPlan) -> dict[str, Any]:
    """Translate one container of the plan."""
    role, is_scheduler = container.role, container.role == "scheduler"
    body = create_request(container, plan, dashboard_port=plan.dashboard_port if is_scheduler else None)
    service = _contained(body)
    service["container_name"] = container.name
    service["depends_on"] = {"keys": {"condition": "service_completed_successfully"}}
    if not is_scheduler:
        service["depends_on"][SCHEDULER_HOST] = {"condition": "service_healthy"}
    mounts = [_keys_mount(role)]
    for mount in body["HostConfig"]["Mounts"]:
        if mount["Type"] == "volume":
            mounts.append(
                {"type": "volume", "source": f"spill-{container.dask_name}", "target": mount["Target"]}
            )
        else:
            mounts.append(bind_mount(mount["Source"], mount["Target"], read_only=mount["ReadOnly"]))
    service["volumes"] = mounts
    if published := body["HostConfig"].get("PortBindings"):
        (dashboard,) = published[f"{DASHBOARD_PORT}/tcp"]
        ports = {SCHEDULER_PORT: str(SCHEDULER_PORT), DASHBOARD_PORT: dashboard["HostPort"] or "0"}
        service["ports"] = [
            {"host_ip": dashboard["HostIp"], "published": port, "target": target}
            for target, port in ports.items()
        ]
    service["healthcheck"] = HEALTHCHECK | {"start_period": f"{plan.start_timeout_s:g}s"}
    service["restart"] = RESTART
    return service


def _contained(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate what every container has; a field that this does not know is an error, never left out."""
    host = body["HostConfig"]
    unknown = set(host) - set(_NAMES) - _TRANSLATED - _DIFFERENT
    if unknown:
        raise NotImplementedError(f"no field of Compose is known for {', '.join(sorted(unknown))}")
    service: dict[str, Any] = {
        "image": body["Image"],
        # Never an image of the same name from a registry.
        "pull_policy": "never",
        "command": list(body["Cmd"]),
        "user": body["User"],
        "labels": _without_owner(body["Labels"]),
    }
    if body["Env"]:
        service["environment"] = dict(line.split("=", 1) for line in body["Env"])
    service |= {_NAMES[field]: value for field, value in host.items() if field in _NAMES}
    service["tmpfs"] = [f"{path}:{options}" for path, options in host["Tmpfs"].items() if path != KEYS_PATH]
    service["logging"] = {"driver": host["LogConfig"]["Type"], "options": dict(host["LogConfig"]["Config"])}
    return service


def _without_owner(labels: Mapping[str, str]) -> dict[str, str]:
    """Leave out who has written the file: Compose is who starts the containers."""
    owner = {OWNER_LABEL, UID_LABEL, DETACHED_LABEL}
    return {name: value for name, value in labels.items() if name not in owner}


def _keys_service(plan: ClusterPlan) -> dict[str, Any]:
    """Return the service that makes the keys and ends."""
    service = _contained(create_request(plan.scheduler, plan))
    service |= {
        "command": ["python", "-m", "canvod.launch.detached.key_volumes", KEYS_PATH],
        "labels": {ROLE_LABEL: "keys"},
        "network_mode": "none",
        "mem_limit": MIN_SCHEDULER_BYTES,
        "memswap_limit": MIN_SCHEDULER_BYTES,
        "volumes": [
            {"type": "volume", "source": f"keys-{role}", "target": f"{KEYS_PATH}/{role}"} for role in ROLES
        ],
    }
    return service


def _ingest_service(plan: ClusterPlan, settings_file: str | None) -> dict[str, Any]:
    """Return the service of the main job: a client of the cluster, which sees what the workers see."""
    worker = plan.workers[0]
    service = _contained(create_request(plan.scheduler, plan))
    binds = [bind_mount(mount.path, mount.path, read_only=mount.read_only) for mount in worker.mounts]
    entrypoint = ["canvod-launch", "ingest"]
    if settings_file is not None:
        entrypoint += ["--config", settings_file]
        if settings_file not in {bind["source"] for bind in binds}:
            binds.append(bind_mount(settings_file, settings_file, read_only=True))
    service |= {
        "image": worker.image,
        "profiles": ["ingest"],
        "entrypoint": entrypoint,
        "command": ["--help"],
        "labels": {ROLE_LABEL: "ingest"},
        "environment": client_environment(),
        "depends_on": {
            name: {"condition": "service_healthy"}
            for name in (SCHEDULER_HOST, *(worker.dask_name for worker in plan.workers))
        },
        "volumes": [_keys_mount("client"), *binds],
    }
    return service


def client_environment() -> dict[str, str]:
    """Environment variables with which an ingest finds the scheduler and its keys: paths, no keys.

    Returns
    -------
    dict of str to str
        As `canvod.launch.cluster.tls.KeyFolder.environment`, with the folder of a container.
    """
    return {
        "CANVOD_PROCESSING__SCHEDULER_ADDRESS": f"tls://{SCHEDULER_HOST}:{SCHEDULER_PORT}",
        **tls_environment(KEYS_PATH),
    }


def _keys_mount(role: str) -> dict[str, Any]:
    return {
        "type": "volume",
        "source": f"keys-{role}",
        "target": KEYS_PATH,
        "read_only": True,
        "volume": {"nocopy": True},
    }


def bind_mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """Describe a mount of a path of the host, which has to be there.

    Parameters
    ----------
    source, target : str
        Path on the host, and in the container.
    read_only : bool
        Whether the container may not write it.
    """
    mount = {"type": "bind", "source": source, "target": target, "bind": {"create_host_path": False}}
    return mount | {"read_only": True} if read_only else mount


def _escaped(value: Any) -> Any:
    """Write every dollar sign twice: Compose would read a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(held) for key, held in value.items()}
    return [_escaped(held) for held in value] if isinstance(value, list) else value
