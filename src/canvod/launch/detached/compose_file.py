"""A plan as a file for ``docker compose``: the launcher's containers, each as a service of its own.

Pure. `canvod.launch.docker.create_request` says what a container is, this module only translates it, so
that both ways start the same containers. What differs, and why:

- Keys come from volumes, which an init service fills once, not through standard input into a tmpfs.
- Containers are started again after a failure, and are not removed when they end: the cluster is detached.
- The scheduler's port is published too, on 127.0.0.1: clients of a detached cluster come from anywhere here.
- Compose has no field for ``CpusetMems``: memory may come from any NUMA node.

scripts/compose-file writes the same services into compose.yaml of a checkout, with workers as replicas and
variables of .env.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from canvod.launch.cluster.tls import ROLES, tls_environment
from canvod.launch.docker.create_request import NETWORK_OPTIONS, create_request
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

_HEADING: Final = """\
The cluster {name}, each worker a service of its own. Written by canvod-launch compose for this host;
changed settings need a new one. The images are made by canvod-launch build. Then:

  docker compose --file compose.pinned.yaml up --detach
  docker compose --file compose.pinned.yaml run --rm ingest INPUT --store PATH --group GROUP

An ingest reads and writes what launch.read_only and launch.writable name, under the same paths. Where a
service does not complete, docker compose --file compose.pinned.yaml logs keys says why.

The service keys makes the keys, once, and ends; each role has a volume of its own for its key. Port 8786 is
for clients that have a certificate of this cluster. The dashboard, 8787, asks for none: everybody who has an
account on this host can look at it.
"""


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
        If the plan is not one of a detached cluster of containers.
    """
    heading = "\n".join((_HEADING.format(name=plan.name), *compose_notes(plan)))
    comment = "".join(f"# {line}".rstrip() + "\n" for line in heading.splitlines())
    return comment + write_yaml(compose_file(plan, settings_file=settings_file))


def write_yaml(document: dict[str, Any]) -> str:
    """Write the contents of a Compose file, in the order that they have.

    Parameters
    ----------
    document : dict
        Such as `compose_file` returns.

    Returns
    -------
    str
        YAML, in flow style where a collection holds plain values only.
    """
    return str(yaml.safe_dump(document, sort_keys=False, default_flow_style=None))


def compose_notes(plan: ClusterPlan) -> list[str]:
    """Describe what of a plan a Compose file cannot express.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.

    Returns
    -------
    list of str
        One sentence each; empty where the file expresses all of it.
    """
    nodes = sorted({node for each in (plan.scheduler, *plan.workers) for node in each.cpuset_mems})
    if not nodes:
        return []
    bound = f"the launcher binds them to {', '.join(map(str, nodes))}"
    return [
        f"Compose has no field for the NUMA nodes of memory (CpusetMems): pages come from any node; {bound}."
    ]


def compose_file(plan: ClusterPlan, *, settings_file: str | None = None) -> dict[str, Any]:
    """Translate a plan into the contents of a Compose file.

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
        If the plan is not one of a detached cluster of containers.
    NotImplementedError
        If a container of the plan has a setting for which no field of Compose is known: a bug.
    """
    if plan.backend != "docker" or not plan.detached:
        raise PlanError(
            "Only a plan of a detached cluster of containers can be written for docker compose.",
            hint="leave out processing.scheduler_address",
        )
    containers = (plan.scheduler, *plan.workers)
    services = {"keys": _keys_service(plan)}
    services |= {container.dask_name: _service(container, plan) for container in containers}
    services["ingest"] = _ingest_service(plan, settings_file)
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    document: dict[str, Any] = _escaped(
        {
            "name": plan.network.name,
            "services": services,
            "networks": {
                "default": {
                    "name": plan.network.name,
                    "internal": plan.network.internal,
                    "driver_opts": NETWORK_OPTIONS,
                    "labels": _without_owner(plan.network.labels),
                }
            },
            "volumes": {mount["source"]: {} for mount in mounts if mount["type"] == "volume"},
        }
    )
    document["services"]["keys"]["labels"][f"{LABEL_PREFIX}.compose"] = REFUSAL
    return document


def _service(container: ContainerPlan, plan: ClusterPlan) -> dict[str, Any]:
    """Translate one container of the plan."""
    body = create_request(container, plan, dashboard_port=plan.dashboard_port)
    service = _contained(body)
    service["container_name"] = container.name
    service["depends_on"] = {"keys": {"condition": "service_completed_successfully"}}
    if container.role != "scheduler":
        service["depends_on"][SCHEDULER_HOST] = {"condition": "service_healthy"}
    service["volumes"] = [_keys_mount(container.role)]
    for mount in body["HostConfig"]["Mounts"]:
        if mount["Type"] == "volume":
            spill = {"type": "volume", "source": f"spill-{container.dask_name}", "target": mount["Target"]}
            service["volumes"].append(spill)
        else:
            service["volumes"].append(bind_mount(mount["Source"], read_only=mount["ReadOnly"]))
    if published := body["HostConfig"].get("PortBindings"):
        (dashboard,) = published[f"{DASHBOARD_PORT}/tcp"]
        ports = {SCHEDULER_PORT: str(SCHEDULER_PORT), DASHBOARD_PORT: dashboard["HostPort"] or "0"}
        service["ports"] = [
            {"host_ip": dashboard["HostIp"], "published": port, "target": target}
            for target, port in ports.items()
        ]
    service["healthcheck"] = HEALTHCHECK | {"start_period": f"{plan.start_timeout_s:g}s"}
    service["restart"] = "on-failure"
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
    paths = {mount.path: mount.read_only for mount in worker.mounts}
    entrypoint = ["canvod-launch", "ingest"]
    if settings_file is not None:
        entrypoint += ["--config", settings_file]
        paths.setdefault(settings_file, True)
    members = (SCHEDULER_HOST, *(worker.dask_name for worker in plan.workers))
    service |= {
        "image": worker.image,
        "profiles": ["ingest"],
        "entrypoint": entrypoint,
        "command": ["--help"],
        "labels": {ROLE_LABEL: "ingest"},
        "environment": client_environment(),
        "depends_on": {name: {"condition": "service_healthy"} for name in members},
        "volumes": [
            _keys_mount("client"),
            *(bind_mount(path, read_only=only) for path, only in paths.items()),
        ],
    }
    return service


def client_environment() -> dict[str, str]:
    """Give the environment variables with which an ingest finds the scheduler and its keys: paths, no keys.

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


def bind_mount(path: str, *, read_only: bool) -> dict[str, Any]:
    """Mount a path of the host, which has to be there, under the same name.

    Parameters
    ----------
    path : str
        Absolute path, on the host and in the container.
    read_only : bool
        Whether the container may only read it.

    Returns
    -------
    dict
        An entry of a service's ``volumes``.
    """
    bind = {"create_host_path": False}
    return {"type": "bind", "source": path, "target": path, "read_only": read_only, "bind": bind}


def _escaped(value: Any) -> Any:
    """Write every dollar sign twice: Compose would read a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(held) for key, held in value.items()}
    return [_escaped(held) for held in value] if isinstance(value, list) else value
