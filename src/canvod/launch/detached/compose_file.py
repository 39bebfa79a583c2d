"""A plan as a file for ``docker compose``: the launcher's containers, each as a service of its own.

Pure. `canvod.launch.docker.create_request` says what a container is, this module only translates it, so
that both ways start the same containers. What differs, and why:

- Keys come from volumes, which an init service fills once, not through standard input into a tmpfs.
- Containers are started again after a failure, and are not removed when they end: the cluster stands.
- The scheduler's port is published too, on 127.0.0.1: clients of a detached cluster come from anywhere here.
- Compose has no word for ``CpusetMems``: memory may come from any NUMA node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from canvod.launch.cluster.tls import ROLES, tls_environment
from canvod.launch.docker.create_request import create_request, network_options
from canvod.launch.errors import PlanError
from canvod.launch.host.labels import LABEL_PREFIX, ROLE_LABEL
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
"""Compose's words for fields of ``HostConfig``."""

_TRANSLATED: Final = frozenset({"Tmpfs", "Mounts", "LogConfig", "PortBindings"})
_DIFFERENT: Final = frozenset({"NetworkMode", "AutoRemove", "RestartPolicy", "CpusetMems"})


def compose_text(plan: ClusterPlan, *, settings_file: str | None = None) -> str:
    """Write a plan as a Compose file.

    Parameters
    ----------
    plan : ClusterPlan
        A plan of containers that stand without a launcher.
    settings_file : str, optional
        Absolute path of the settings, which an ingest follows as well.

    Returns
    -------
    str
        YAML, with a heading that says how to use it.

    Raises
    ------
    PlanError
        If the plan is not one of containers that stand.
    """
    text = yaml.safe_dump(
        compose_file(plan, settings_file=settings_file), sort_keys=False, width=110, allow_unicode=True
    )
    lines = [
        f"# The cluster {plan.name}, each worker a service of its own. Written by canvod-launch compose for",
        "# this host; changed settings need a new one. The images are made by canvod-launch build. Then:",
        "#",
        "#   docker compose --file compose.pinned.yaml up --detach",
        "#   docker compose --file compose.pinned.yaml run --rm ingest INPUT --store PATH --group GROUP",
        "#",
        "# An ingest reads and writes what launch.read_only and launch.writable name, under the same paths.",
        *(f"#\n# {note}" for note in compose_notes(plan)),
    ]
    return "\n".join(lines) + "\n" + text


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
        f"Compose has no word for the NUMA nodes of memory (CpusetMems): pages come from any node; {bound}."
    ]


def compose_file(plan: ClusterPlan, *, settings_file: str | None = None) -> dict[str, Any]:
    """Turn a plan into the contents of a Compose file.

    Parameters
    ----------
    plan : ClusterPlan
        A plan of containers that stand without a launcher.
    settings_file : str, optional
        Absolute path of the settings, which an ingest follows as well.

    Returns
    -------
    dict
        Ready to be written as YAML.

    Raises
    ------
    PlanError
        If the plan is not one of containers that stand.
    """
    if plan.backend != "docker" or not plan.detached:
        raise PlanError(
            "Only a plan of containers that stand without a launcher can be written for docker compose.",
            hint="leave out processing.scheduler_address",
        )
    services = {"keys": _keys_service(plan)}
    for container in (plan.scheduler, *plan.workers):
        services[container.dask_name] = _service(container, plan)
    services["ingest"] = _ingest_service(plan, settings_file)
    spills = [mount["source"] for each in services.values() for mount in each.get("volumes", ())
              if mount["type"] == "volume" and not mount["source"].startswith("keys-")]  # fmt: skip
    found = _escaped(
        {
            "name": plan.network.name,
            "services": services,
            "networks": {
                "default": {
                    "name": plan.network.name,
                    "internal": plan.network.internal,
                    "driver_opts": network_options(),
                    "labels": dict(plan.network.labels),
                }
            },
            "volumes": {name: {} for name in (*(f"keys-{role}" for role in ROLES), *spills)},
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
            mounts.append(_bind(mount["Source"], read_only=mount["ReadOnly"]))
    service["volumes"] = mounts
    bindings = body["HostConfig"].get("PortBindings")
    if bindings:
        (dashboard,) = bindings[f"{DASHBOARD_PORT}/tcp"]
        service["ports"] = [
            _port(SCHEDULER_PORT, str(SCHEDULER_PORT), dashboard["HostIp"]),
            _port(DASHBOARD_PORT, dashboard["HostPort"], dashboard["HostIp"]),
        ]
    service["healthcheck"] = HEALTHCHECK | {"start_period": f"{plan.start_timeout_s:g}s"}
    service["restart"] = RESTART
    return service


def _contained(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate what every container has; a field that this does not know is never left out in silence."""
    host = body["HostConfig"]
    unknown = set(host) - set(_NAMES) - _TRANSLATED - _DIFFERENT
    if unknown:
        raise NotImplementedError(f"docker compose is not told of {', '.join(sorted(unknown))}")
    service: dict[str, Any] = {
        "image": body["Image"],
        # Never a stranger's image of the same name.
        "pull_policy": "never",
        "command": list(body["Cmd"]),
        "user": body["User"],
        "environment": dict(line.split("=", 1) for line in body["Env"]),
        "labels": dict(body["Labels"]),
    }
    service |= {_NAMES[field]: value for field, value in host.items() if field in _NAMES}
    service["tmpfs"] = [f"{path}:{options}" for path, options in host["Tmpfs"].items() if path != KEYS_PATH]
    service["logging"] = {"driver": host["LogConfig"]["Type"], "options": dict(host["LogConfig"]["Config"])}
    return service


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
    binds = [_bind(mount.path, read_only=mount.read_only) for mount in worker.mounts]
    entrypoint = ["canvod-launch", "ingest"]
    if settings_file is not None:
        entrypoint += ["--config", settings_file]
        if settings_file not in {bind["source"] for bind in binds}:
            binds.append(_bind(settings_file, read_only=True))
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


def _bind(path: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": path,
        "target": path,
        "read_only": read_only,
        "bind": {"create_host_path": False},
    }


def _port(target: int, published: str, host_ip: str) -> dict[str, Any]:
    return {"host_ip": host_ip, "published": published or "0", "target": target}


def _escaped(value: Any) -> Any:
    """Write every dollar sign twice: Compose would read a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(held) for key, held in value.items()}
    return [_escaped(held) for held in value] if isinstance(value, list) else value
