"""The requests that create a planned container and its network, as the Docker Engine API spells them.

Pure: the same plan always gives the same body, so what ``canvod-launch plan --json`` prints is what is sent.
Field names and units: Docker Engine API v1.41, ``ContainerCreate`` and ``NetworkCreate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from canvod.launch.plan.model import DASHBOARD_PORT, KEYS_PATH, SCHEDULER_HOST
from canvod.launch.units import MIB

if TYPE_CHECKING:
    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

NETWORK_OPTIONS: Final = {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
"""Driver options of the cluster's network: ports that are published without an address go to 127.0.0.1, not
to every address of the host."""

_LOG_OPTIONS: Final = {"max-size": "10m", "max-file": "2"}
_KEYS_BYTES: Final = 8 * MIB
"""Room for keys, and in the scheduler for the plan of a detached cluster, about 2 KiB for each worker."""
_OOM_SCORE_ADJ: Final = 500
"""When the whole host runs out of memory, the kernel takes a worker before other people's processes."""


def create_request(
    plan: ContainerPlan, cluster: ClusterPlan, *, dashboard_port: int | None = None
) -> dict[str, Any]:
    """Build the body of ``POST /containers/create`` for one container.

    Parameters
    ----------
    plan : ContainerPlan
        The container.
    cluster : ClusterPlan
        The cluster that it belongs to.
    dashboard_port : int, optional
        Port on 127.0.0.1 to publish the scheduler's dashboard on; 0 lets the engine choose one, None
        publishes nothing. Nothing is ever published on another address.

    Returns
    -------
    dict
        The body, ready to be sent as JSON.
    """
    mounts: list[dict[str, Any]] = [
        {"Type": "bind", "Source": mount.path, "Target": mount.path, "ReadOnly": mount.read_only}
        for mount in plan.mounts
    ]
    if plan.spill_path is not None and all(mount.path != plan.spill_path for mount in plan.mounts):
        # A name of its own it has not, but labels, so that it can be found whatever became of its container.
        options = {"Labels": dict(plan.labels)}
        mounts.append(
            {"Type": "volume", "Target": plan.spill_path, "ReadOnly": False, "VolumeOptions": options}
        )
    uid, _, gid = plan.user.partition(":")
    host: dict[str, Any] = {
        "NetworkMode": cluster.network.name,
        "CpusetCpus": ",".join(map(str, plan.cpuset_cpus)),
        "CpusetMems": ",".join(map(str, plan.cpuset_mems)),
        "Memory": plan.memory_bytes,
        "MemorySwap": plan.memory_bytes,
        "PidsLimit": plan.pids_limit,
        "OomScoreAdj": _OOM_SCORE_ADJ,
        "Init": True,
        "AutoRemove": True,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": {
            "/tmp": f"rw,nosuid,nodev,noexec,mode=1777,size={plan.tmpfs_bytes}",  # noqa: S108
            KEYS_PATH: f"rw,nosuid,nodev,noexec,mode=0700,uid={uid},gid={gid},size={_KEYS_BYTES}",
        },
        "Mounts": mounts,
        "LogConfig": {"Type": "json-file", "Config": dict(_LOG_OPTIONS)},
        "RestartPolicy": {"Name": "no"},
    }
    if plan.groups:
        host["GroupAdd"] = [str(group) for group in plan.groups]
    if plan.cpu_shares is not None:
        host["CpuShares"] = plan.cpu_shares
    if plan.cgroup_parent is not None:
        host["CgroupParent"] = plan.cgroup_parent
    body: dict[str, Any] = {
        "Image": plan.image,
        "Cmd": list(plan.command),
        "User": plan.user,
        "Env": [f"{name}={value}" for name, value in sorted(plan.environment.items())],
        "Labels": dict(plan.labels),
        # The keys come this way, once.
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }
    if plan.role == "scheduler":
        body["NetworkingConfig"] = {"EndpointsConfig": {cluster.network.name: {"Aliases": [SCHEDULER_HOST]}}}
        # Nothing can be published from an internal network; the host reaches its addresses all the same.
        if dashboard_port is not None and not cluster.network.internal:
            port = f"{DASHBOARD_PORT}/tcp"
            body["ExposedPorts"] = {port: {}}
            host["PortBindings"] = {port: [{"HostIp": "127.0.0.1", "HostPort": str(dashboard_port or "")}]}
    return body
