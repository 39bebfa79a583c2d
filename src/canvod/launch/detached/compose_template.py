"""compose.yaml of a checkout: the services of a written plan, with workers as replicas and variables of .env.

Pure. The plan is that of default settings, so that each variable's default is what the launcher would give.
``python -m canvod.launch.detached.compose_template`` prints the file (``make compose-file``).
"""

from __future__ import annotations

import sys
from typing import Any, Final

from canvod.launch.config import Settings
from canvod.launch.detached.compose_file import NOT_ROOT, REFUSAL, bind_mount, compose_file, write_yaml
from canvod.launch.host.inventory import Cpu, HostInventory
from canvod.launch.host.labels import CLUSTER_LABEL, LABEL_PREFIX, ROLE_LABEL
from canvod.launch.images.debian import SUITES
from canvod.launch.plan.container_plans import THREAD_VARIABLES
from canvod.launch.plan.model import DASHBOARD_PORT, SCHEDULER_PORT, ClusterPlan, Mount
from canvod.launch.plan.planner import make_plan
from canvod.launch.plan.sizing import COMFORTABLE_WORKER_BYTES
from canvod.launch.units import GIB, MIB

HEADING: Final = """\
A detached cluster: scheduler, workers, dashboard. Needs Docker Engine 20.10 and Compose 2.26, or newer.

  make compose-user                     # once: CANVOD_USER in .env, ./data and ./stores with that owner
  docker compose build
  docker compose up --detach
  docker compose ps                     # everything "healthy"; the dashboard is http://127.0.0.1:8787/status
  docker compose run --rm ingest data/01_reference --store stores/rosalia --group rosalia/reference_01
  docker compose down                   # --volumes: the keys and what was spilled, too

Paths of an ingest begin with data/ and stores/, on the host and in the containers alike; the sections
launch: and ingest: of config/processing.yaml apply. Every ${CANVOD_...} is explained in .env. Compose gives
all workers the same cores (docker/compose#4432); for workers that have cores of their own: canvod-launch
compose. Where no registry answers: make compose-base.

Written by make compose-file, by the code of canvod-launch compose. Own changes belong into .env, and what
has no variable there into compose.override.yaml.
"""

_NOT_ROOT_COMMAND: Final = """\
[ "$(id -u)" != 0 ] && exit
echo "error: CANVOD_USER is root; containers never run as root." >&2
echo "  to do: make compose-user, or write another user into .env, such as CANVOD_USER=1000:1000" >&2
exit 1
"""

_OPTIONS: Final = {
    "--nice": "CANVOD_NICE",
    "--nthreads": "CANVOD_THREADS",
    "--max-spill": "CANVOD_SPILL_BYTES",
    "--start-timeout": "CANVOD_START_TIMEOUT",
}
"""Options of scheduler and worker that a variable gives."""

_OF_ONE_WORKER: Final = frozenset({"--name", "--memory-limit", "--cpu-affinity"})
"""Options that replicas cannot have; a worker takes its container's name, memory limit and cores."""


def template_text() -> str:
    """Write compose.yaml.

    Returns
    -------
    str
        YAML, with a heading that says how to use it.
    """
    return write_yaml(_template(), HEADING)


def _template() -> dict[str, Any]:
    """Turn the plan of default settings into the contents of compose.yaml."""
    document = compose_file(_default_plan())
    services = {NOT_ROOT: _check_service(document["services"]["keys"])}
    services |= {name.removesuffix("-0"): service for name, service in document["services"].items()}
    worker = services["worker"]
    for name, service in services.items():
        _use_variables(service)
        service["labels"] = {CLUSTER_LABEL: "${COMPOSE_PROJECT_NAME}", ROLE_LABEL: name}
    services[NOT_ROOT]["labels"] = {f"{LABEL_PREFIX}.compose": REFUSAL}
    services["keys"]["depends_on"] = {NOT_ROOT: {"condition": "service_completed_successfully"}}

    python = max(SUITES, key=lambda version: int(version.partition(".")[2]))
    image = {
        "PYTHON_IMAGE": f"python:{_variable('CANVOD_PYTHON', python)}-slim",
        "PYTHON": _variable("CANVOD_PYTHON", python),
    }
    for role in ("scheduler", "worker"):
        services[role]["build"] = {"context": ".", "dockerfile": f"Dockerfile.{role}", "args": dict(image)}
        _limit_memory(services[role], f"CANVOD_{role.upper()}_MEMORY")
    ports = {SCHEDULER_PORT: "CANVOD_SCHEDULER_PORT", DASHBOARD_PORT: "CANVOD_DASHBOARD_PORT"}
    for port in services["scheduler"]["ports"]:
        port["published"] = _variable(ports[port["target"]], port["published"])
    worker["deploy"] = {"replicas": _variable("CANVOD_WORKERS", 2)}
    worker["environment"] |= dict.fromkeys(THREAD_VARIABLES, _variable("CANVOD_THREADS", 1))

    ingest = services["ingest"]
    _limit_memory(ingest, "CANVOD_INGEST_MEMORY")
    ingest["working_dir"] = "/"
    ingest["depends_on"] = {name: {"condition": "service_healthy"} for name in ("scheduler", "worker")}
    ingest["volumes"].append(bind_mount("./config", "/config", read_only=True))
    network = {"driver_opts": document["networks"]["default"]["driver_opts"]}
    volumes = {_volume_name(name): held for name, held in document["volumes"].items()}
    return {
        "name": "canvod-launch",
        "services": services,
        "networks": {"default": network},
        "volumes": volumes,
    }


def _default_plan() -> ClusterPlan:
    """Plan one worker of default settings for root, on a host that has just what it needs."""
    host = HostInventory(
        cpus=(Cpu(id=0, core=(0,), node=0),),
        cpu_quota=None,
        memory_total_bytes=64 * GIB,
        memory_available_bytes=64 * GIB,
        memory_limit_bytes=None,
        cgroup_version=2,
        uid=0,
        gid=0,
    )
    memory_gb = COMFORTABLE_WORKER_BYTES / GIB
    return make_plan(
        Settings.model_validate(
            {"processing": {"resource_mode": "manual", "n_max_threads": 1, "max_memory_gb": memory_gb}}
        ),
        host,
        backend="docker",
        name="compose",
        python="",
        version="",
        mounts=[Mount(path="/data", read_only=True), Mount(path="/stores", read_only=False)],
        image_for=lambda role, _python: f"canvod-launch-{role}:compose",
        detached=True,
    )


def _check_service(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the service that ends with 1 where CANVOD_USER is root."""
    command = ["sh", "-c", _NOT_ROOT_COMMAND.replace("$", "$$")]
    return {field: value for field, value in keys.items() if field != "volumes"} | {"command": command}


def _variable(name: str, default: object) -> str:
    return f"${{{name}:-{default}}}"


def _limit_memory(service: dict[str, Any], variable: str) -> None:
    limit = _variable(variable, f"{service['mem_limit'] // MIB}m")
    service |= {"mem_limit": limit, "memswap_limit": limit}


def _volume_name(planned: str) -> str:
    """Replicas share one volume to spill to."""
    return "spill" if planned.startswith("spill-") else planned


def _use_variables(service: dict[str, Any]) -> None:
    """Replace what the plan says of a container by what .env says."""
    service.pop("container_name", None)
    service |= {
        "user": _variable("CANVOD_USER", service["user"]),
        "pids_limit": _variable("CANVOD_PIDS_LIMIT", service["pids_limit"]),
        "cpuset": _variable("CANVOD_CPUSET", ""),
        "cpu_shares": _variable("CANVOD_CPU_SHARES", 0),
        "cgroup_parent": _variable("CANVOD_CGROUP_PARENT", ""),
    }
    path, _, size = service["tmpfs"][0].rpartition("=")
    service["tmpfs"] = [f"{path}={_variable('CANVOD_TMP_MB', int(size) // MIB)}m"]
    words = service["command"]
    if "--keys" in words:
        options = dict(zip(words[3::2], words[4::2], strict=True))
        service["command"] = words[:3] + [
            f"{option}={_variable(_OPTIONS[option], value) if option in _OPTIONS else value}"
            for option, value in options.items()
            if option not in _OF_ONE_WORKER
        ]
    if "restart" in service:
        service["restart"] = _variable("CANVOD_RESTART", service["restart"])
        seconds = service["healthcheck"]["start_period"].removesuffix("s")
        service["healthcheck"]["start_period"] = _variable("CANVOD_START_TIMEOUT", seconds) + "s"
    folders = {"/data": _variable("CANVOD_DATA", "./data"), "/stores": _variable("CANVOD_STORES", "./stores")}
    for mount in service.get("volumes", ()):
        mount["source"] = folders.get(mount["source"], _volume_name(mount["source"]))


if __name__ == "__main__":
    sys.stdout.write(template_text())
