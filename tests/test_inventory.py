"""Reading the host: copies of other machines' files, this machine, and real control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.host.cgroups import NO_LIMIT, read_cgroups
from canvod.launch.host.cpulist import format_cpulist, parse_cpulist
from canvod.launch.host.detect import ProcessView, read_inventory
from canvod.launch.host.inventory import HostInventory
from canvod.launch.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

V1_NO_LIMIT = 9223372036854771712
"""What memory.limit_in_bytes shows without a limit, with pages of 4 KB."""

MOUNTS_V1 = """\
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime shared:10 - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:11 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:12 - cgroup cgroup rw,xattr,name=systemd
"""
MOUNTS_V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNTS_HYBRID = MOUNTS_V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:13 - cgroup2 cgroup2 rw\n"


def write(root: Path, files: Mapping[str, object]) -> Path:
    """Write small files below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def topology(nodes: int, cores: int, smt: int, *, name: str = "core_cpus_list") -> dict[str, object]:
    """Files of a host as sysfs has them: siblings numbered in rounds, as Linux does on x86."""
    physical = nodes * cores
    files: dict[str, object] = {"sys/devices/system/cpu/online": f"0-{physical * smt - 1}"}
    for cpu in range(physical * smt):
        siblings = format_cpulist(cpu % physical + n * physical for n in range(smt))
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/{name}"] = siblings
    for node in range(nodes):
        own = [core + n * physical for n in range(smt) for core in range(node * cores, (node + 1) * cores)]
        files[f"sys/devices/system/node/node{node}/cpulist"] = format_cpulist(own)
        files[f"sys/devices/system/node/node{node}/meminfo"] = f"Node {node} MemTotal:  {32 * 1024**2} kB"
    return files


def view(cpus: int = 32, **changes: object) -> ProcessView:
    """What a process of that host is told by the kernel."""
    values: dict[str, object] = {
        "affinity": frozenset(range(cpus)),
        "memory_total_bytes": 64 * GIB,
        "memory_available_bytes": 60 * GIB,
        "uid": 1000,
        "gid": 100,
    }
    return ProcessView(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_two_sockets_with_smt(tmp_path, name):
    """Siblings and nodes of 2 sockets x 8 cores x 2 threads, under the new and the old file name."""
    inventory = read_inventory(write(tmp_path, topology(2, 8, 2, name=name)), view=view())
    assert [cpu.id for cpu in inventory.cpus] == list(range(32))
    assert inventory.cpus[3].core == (3, 19)
    assert inventory.cpus[19].core == (3, 19)
    assert [cpu.id for cpu in inventory.cpus if cpu.node == 1] == [*range(8, 16), *range(24, 32)]
    assert inventory.node_memory_bytes == {0: 32 * GIB, 1: 32 * GIB}
    assert inventory.other_cpus == ()
    assert (inventory.uid, inventory.gid) == (1000, 100)


def test_nothing_to_read(tmp_path):
    """Without any file: cores without siblings on one node, no limits."""
    inventory = read_inventory(tmp_path, view=view(2))
    assert [(cpu.id, cpu.core, cpu.node) for cpu in inventory.cpus] == [(0, (0,), 0), (1, (1,), 0)]
    assert inventory.cpu_quota is None
    assert inventory.memory_limit_bytes is None
    assert inventory.memory_available_bytes == 60 * GIB
    assert inventory.node_memory_bytes == {}


def test_affinity_narrows(tmp_path):
    """Taskset -c 4-5: the others are known, and not allowed."""
    root = write(tmp_path, topology(1, 8, 1))
    inventory = read_inventory(root, view=view(affinity=frozenset({4, 5})))
    assert [cpu.id for cpu in inventory.cpus] == [4, 5]
    assert [cpu.id for cpu in inventory.other_cpus] == [0, 1, 2, 3, 6, 7]


def test_v1(tmp_path):
    """Version 1: the smallest limit of all ancestors counts, and what is left in the fullest group."""
    memory, cpu = "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu,cpuacct"
    files = topology(1, 8, 1) | {
        "proc/self/mountinfo": MOUNTS_V1,
        "proc/self/cgroup": "4:memory:/job/step\n3:cpuset:/job\n2:cpu,cpuacct:/job/step\n1:name=systemd:/x",
        f"{memory}/memory.limit_in_bytes": V1_NO_LIMIT,
        f"{memory}/job/memory.limit_in_bytes": 8 * GIB,
        f"{memory}/job/memory.usage_in_bytes": 6 * GIB,
        f"{memory}/job/memory.stat": f"cache 5\ninactive_file 7\ntotal_inactive_file {1 * GIB}",
        f"{memory}/job/step/memory.limit_in_bytes": 16 * GIB,
        f"{memory}/job/step/memory.usage_in_bytes": 1 * GIB,
        f"{cpu}/cpu.cfs_quota_us": -1,
        f"{cpu}/cpu.cfs_period_us": 100000,
        f"{cpu}/job/cpu.cfs_quota_us": 250000,
        f"{cpu}/job/cpu.cfs_period_us": 100000,
        f"{cpu}/job/step/cpu.cfs_quota_us": 400000,
        f"{cpu}/job/step/cpu.cfs_period_us": 100000,
        "sys/fs/cgroup/cpuset/cpuset.cpus": "0-7",
        "sys/fs/cgroup/cpuset/job/cpuset.cpus": "2-5",
    }
    inventory = read_inventory(write(tmp_path, files), view=view(8))
    assert inventory.cgroup_version == 1
    assert inventory.memory_limit_bytes == 8 * GIB
    assert inventory.memory_available_bytes == 3 * GIB
    assert inventory.cpu_quota == 2.5
    assert [cpu.id for cpu in inventory.cpus] == [2, 3, 4, 5]


def test_v1_without_limits(tmp_path):
    """The huge number that version 1 shows is no limit."""
    files = {
        "proc/self/mountinfo": MOUNTS_V1,
        "proc/self/cgroup": "4:memory:/\n2:cpu,cpuacct:/",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NO_LIMIT,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": 6 * GIB,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": -1,
    }
    limits = read_cgroups(write(tmp_path, files))
    assert limits.memory_limit_bytes is None
    assert limits.memory_left_bytes is None
    assert limits.cpu_quota is None
    assert V1_NO_LIMIT >= NO_LIMIT > 2048 * GIB


def test_v2(tmp_path):
    """Version 2: the same, in its own files; "max" is no limit."""
    group = "sys/fs/cgroup"
    files = topology(1, 8, 1) | {
        "proc/self/mountinfo": MOUNTS_V2,
        "proc/self/cgroup": "0::/user.slice/job.scope",
        f"{group}/cpuset.cpus.effective": "0-7",
        f"{group}/user.slice/memory.max": 10 * GIB,
        f"{group}/user.slice/memory.current": 7 * GIB,
        f"{group}/user.slice/memory.stat": f"anon 1\ninactive_file {2 * GIB}\nactive_file 3",
        f"{group}/user.slice/cpu.max": "max 100000",
        f"{group}/user.slice/job.scope/memory.max": "max",
        f"{group}/user.slice/job.scope/memory.current": 1 * GIB,
        f"{group}/user.slice/job.scope/cpu.max": "150000 50000",
        f"{group}/user.slice/job.scope/cpuset.cpus": "",
        f"{group}/user.slice/job.scope/cpuset.cpus.effective": "0-3",
    }
    inventory = read_inventory(write(tmp_path, files), view=view(8))
    assert inventory.cgroup_version == 2
    assert inventory.memory_limit_bytes == 10 * GIB
    assert inventory.memory_available_bytes == 5 * GIB
    assert inventory.cpu_quota == 3.0
    assert [cpu.id for cpu in inventory.cpus] == [0, 1, 2, 3]


def test_hybrid(tmp_path):
    """Both mounted: controllers of version 1 are read there, and the version is 1."""
    files = {
        "proc/self/mountinfo": MOUNTS_HYBRID,
        "proc/self/cgroup": "4:memory:/job\n0::/elsewhere",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": 2 * GIB,
        "sys/fs/cgroup/unified/elsewhere/memory.max": 1 * GIB,
    }
    limits = read_cgroups(write(tmp_path, files))
    assert limits.version == 1
    assert limits.memory_limit_bytes == 2 * GIB


def test_a_controller_may_be_left_to_version_2(tmp_path):
    """In a mixed set-up without version 1's memory controller, version 2's is read."""
    mounts = "".join(line for line in MOUNTS_HYBRID.splitlines(keepends=True) if "memory" not in line)
    files = {
        "proc/self/mountinfo": mounts,
        "proc/self/cgroup": "2:cpu,cpuacct:/job\n0::/job",
        "sys/fs/cgroup/unified/job/memory.max": 1 * GIB,
        "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": 50000,
        "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": 100000,
    }
    limits = read_cgroups(write(tmp_path, files))
    assert limits.memory_limit_bytes == 1 * GIB
    assert limits.cpu_quota == 0.5


def test_inside_a_container_of_version_1(tmp_path):
    """Without a cgroup namespace the mount begins at the container's own group."""
    files = {
        "proc/self/mountinfo": "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        "proc/self/cgroup": "4:memory:/docker/ab",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 3 * GIB,
    }
    assert read_cgroups(write(tmp_path, files)).memory_limit_bytes == 3 * GIB


@pytest.mark.parametrize("group", ["/", "/../../other", "/outside"])
def test_inside_a_container_of_version_2(tmp_path, group):
    """With a cgroup namespace the group is the mount; one outside of it is not looked for."""
    files = {
        "proc/self/mountinfo": MOUNTS_V2.replace(" / /sys", " /here /sys") if group != "/" else MOUNTS_V2,
        "proc/self/cgroup": f"0::{group}",
        "sys/fs/cgroup/memory.max": 3 * GIB,
    }
    assert read_cgroups(write(tmp_path, files)).memory_limit_bytes == 3 * GIB


def test_a_full_group_leaves_nothing(tmp_path):
    """Available memory never falls below zero."""
    files = {
        "proc/self/mountinfo": MOUNTS_V2,
        "proc/self/cgroup": "0::/job",
        "sys/fs/cgroup/job/memory.max": 1 * GIB,
        "sys/fs/cgroup/job/memory.current": 2 * GIB,
    }
    assert read_inventory(write(tmp_path, files), view=view()).memory_available_bytes == 0


@given(
    st.lists(st.sampled_from(["proc/self/mountinfo", "proc/self/cgroup"]), unique=True), st.text(max_size=80)
)
def test_garbage_is_no_error(tmp_path_factory, names, text):
    """Whatever these files hold: no exception, and the process's own CPUs."""
    root = tmp_path_factory.mktemp("garbage")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", errors="replace")
    assert [cpu.id for cpu in read_inventory(root, view=view(2)).cpus] == [0, 1]


@pytest.mark.parametrize(
    ("text", "ids"), [("", ()), ("3\n", (3,)), ("0-2,7", (0, 1, 2, 7)), ("0-7:2/4", (0, 1, 4, 5))]
)
def test_cpulists(text, ids):
    """Every form in which the kernel writes CPU lists."""
    assert parse_cpulist(text) == ids


def test_this_machine():
    """What is read here agrees with what the operating system says."""
    inventory = read_inventory()
    allowed = os.sched_getaffinity(0)
    assert {cpu.id for cpu in inventory.cpus} <= allowed
    assert inventory.cpus
    assert all(cpu.id in cpu.core for cpu in inventory.cpus)
    assert len(inventory.cpus) + len(inventory.other_cpus) == psutil.cpu_count()
    assert inventory.memory_total_bytes == pytest.approx(psutil.virtual_memory().total, rel=0.2)
    assert 0 < inventory.memory_available_bytes <= inventory.memory_total_bytes
    assert (inventory.uid, inventory.gid) == (os.getuid(), os.getgid())


@contextmanager
def group(folder: Path, **files: object) -> Iterator[Path]:
    """Make a real control group, and remove it."""
    if os.geteuid() != 0 or not folder.parent.is_dir():
        pytest.skip(f"needs root and {folder.parent}")
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"control groups cannot be made here: {exc}")
    try:
        for name, value in files.items():
            (folder / name.replace("__", ".")).write_text(str(value))
        yield folder
    finally:
        with suppress(FileNotFoundError):
            folder.rmdir()


def read_within(*folders: Path) -> HostInventory:
    """Read the inventory in a process of its own that first joins some groups."""
    program = (
        "import os, sys\n"
        "for folder in sys.argv[1:]:\n"
        "    open(folder + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "from canvod.launch.host.detect import read_inventory\n"
        "print(read_inventory().model_dump_json())\n"
    )
    arguments = [sys.executable, "-c", program, *map(str, folders)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    return HostInventory.model_validate_json(done.stdout)


def test_a_real_memory_limit_of_version_1():
    """A process below a limited group sees the limit, and never more memory than it leaves."""
    name = f"canvod-test-{os.getpid()}"
    with (
        group(Path("/sys/fs/cgroup/memory") / name, memory__limit_in_bytes=700 * MIB) as outer,
        group(outer / "inner", memory__limit_in_bytes=900 * MIB) as inner,
    ):
        inventory = read_within(inner)
    assert inventory.memory_limit_bytes == 700 * MIB
    assert 500 * MIB < inventory.memory_available_bytes < 700 * MIB
    assert inventory.memory_total_bytes > 700 * MIB


def test_a_real_cpuset_and_quota_of_version_1():
    """A process in a cpuset of one CPU, with a quota, sees both."""
    name = f"canvod-test-{os.getpid()}"
    cpu = min(os.sched_getaffinity(0))
    cpuset = Path("/sys/fs/cgroup/cpuset")
    mems = (cpuset / "cpuset.mems").read_text().strip() if cpuset.is_dir() else ""
    with (
        group(cpuset / name, cpuset__cpus=cpu, cpuset__mems=mems) as pinned,
        group(Path("/sys/fs/cgroup/cpu") / name, cpu__cfs_quota_us=150000, cpu__cfs_period_us=100000) as slow,
    ):
        inventory = read_within(pinned, slow)
    assert [cpu.id for cpu in inventory.cpus] == [cpu]
    assert inventory.cpu_quota == 1.5
    assert len(inventory.other_cpus) == (psutil.cpu_count() or 1) - 1


def test_real_limits_of_version_2():
    """The same under version 2, where the controllers are enabled at the top."""
    top = Path("/sys/fs/cgroup")
    enabled = top / "cgroup.subtree_control"
    if not enabled.is_file() or not {"memory", "cpu"} <= set(enabled.read_text().split()):
        pytest.skip("no cgroup v2 with the memory and cpu controllers here")
    with group(
        top / f"canvod-test-{os.getpid()}", memory__max=700 * MIB, cpu__max="150000 100000"
    ) as limited:
        inventory = read_within(limited)
    assert inventory.cgroup_version == 2
    assert inventory.memory_limit_bytes == 700 * MIB
    assert 500 * MIB < inventory.memory_available_bytes < 700 * MIB
    assert inventory.cpu_quota == 1.5
