"""Plans of particular hosts, and every refusal of the planner by its message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from canvod.launch.config import load_settings
from canvod.launch.dask_memory_limit import NANNY_BYTES
from canvod.launch.errors import PlanError
from canvod.launch.host.inventory import Cpu, HostInventory
from canvod.launch.plan.container_plans import PROCESS_VARIABLES
from canvod.launch.plan.cores import slice_cores
from canvod.launch.plan.model import ClusterPlan, Mount
from canvod.launch.units import GIB, MIB
from plan_strategies import make_engine, make_host, make_settings, planned

if TYPE_CHECKING:
    from pathlib import Path

MANUAL = {"resource_mode": "manual", "n_max_threads": 2, "max_memory_gb": 8}


def plan_for(
    processing: dict[str, Any] | None = None,
    launch: dict[str, Any] | None = None,
    *,
    host: HostInventory | None = None,
    **arguments: Any,
) -> ClusterPlan:
    """Plan containers on a host of four cores and 64 GiB, unless told otherwise."""
    settings = make_settings(processing=processing or {}, launch=launch or {})
    return planned(settings, host or make_host(), **{"engine": make_engine(), **arguments})


def slices(plan: ClusterPlan) -> list[tuple[int, ...]]:
    """Cores of each worker."""
    return [worker.cpuset_cpus for worker in plan.workers]


def texts(plan: ClusterPlan, level: str) -> str:
    """All notes of a level."""
    return "\n".join(note.text for note in plan.notes if note.level == level)


def test_manual_slices_a_list_and_the_scheduler_runs_on_all_of_it():
    """Workers get disjoint slices of the list; the scheduler gets no slice, but the list."""
    plan = plan_for(
        MANUAL | {"threads_per_worker": 2, "cpu_affinity": [9, 3, 4, 5, 6, 7, 8]}, host=make_host(2, 8)
    )
    assert slices(plan) == [(3, 4), (8, 9)]
    assert [worker.cpuset_mems for worker in plan.workers] == [(0,), (1,)]
    assert plan.scheduler.cpuset_cpus == (3, 4, 5, 6, 7, 8, 9)
    assert plan.scheduler.cpuset_mems == (0, 1)


def test_one_hardware_thread_of_each_core_while_there_are_cores():
    """Siblings stay free as long as there are more physical cores than the workers have threads."""
    plan = plan_for(MANUAL | {"threads_per_worker": 2}, host=make_host(1, 4, 2))
    assert slices(plan) == [(0, 1), (2, 3)]


def test_whole_cores_when_siblings_are_needed():
    """With more threads than physical cores a worker gets both siblings of each of its cores."""
    plan = plan_for(MANUAL | {"threads_per_worker": 4}, host=make_host(1, 4, 2))
    assert slices(plan) == [(0, 1, 4, 5), (2, 3, 6, 7)]


def test_odd_threads_do_not_split_a_core_where_there_is_room():
    """Three threads take two cores of their own and leave one sibling free."""
    plan = plan_for(MANUAL | {"threads_per_worker": 3}, host=make_host(1, 4, 2))
    assert slices(plan) == [(0, 1, 4), (2, 3, 6)]


def test_a_worker_stays_on_one_numa_node():
    """Three free cores on one node and one on the other: nobody gets the odd one."""
    plan = plan_for(
        MANUAL | {"n_max_threads": 1, "threads_per_worker": 3}, host=make_host(2, 4, allowed={3, 4, 5, 6})
    )
    assert slices(plan) == [(4, 5, 6)]


def test_a_worker_that_spans_nodes_is_warned_of():
    """Where no node has room, a worker lies on two, and a warning names it."""
    plan = plan_for(MANUAL | {"n_max_threads": 1, "threads_per_worker": 3}, host=make_host(2, 2))
    assert slices(plan) == [(0, 1, 2)]
    assert plan.workers[0].cpuset_mems == (0, 1)
    assert "No NUMA node has room for worker-0" in texts(plan, "warning")


def test_too_few_cores_are_shared_with_a_warning():
    """More workers x threads than cores: all have all, and a warning has the numbers."""
    plan = plan_for(MANUAL | {"threads_per_worker": 3, "cpu_affinity": [0, 1, 2, 3]})
    assert plan.cores_shared
    assert slices(plan) == [(0, 1, 2, 3)] * 2
    assert "2 workers x 3 threads are more than 4 cores" in texts(plan, "warning")


def test_more_threads_than_cores_is_warned_of():
    """A worker with more threads than there are cores is allowed, with a warning."""
    plan = plan_for(MANUAL | {"n_max_threads": 1, "threads_per_worker": 9})
    assert "threads_per_worker = 9" in texts(plan, "warning")
    assert "4 cores" in texts(plan, "warning")
    assert not plan.cores_shared


def test_auto_leaves_a_core_and_a_tenth_of_the_memory():
    """Auto mode: a worker for each core but one; a tenth of the memory and the scheduler's cap are left."""
    plan = plan_for(host=make_host(1, 8, memory_available_bytes=60 * GIB))
    assert slices(plan) == [(n,) for n in range(7)]
    expected = (60 * GIB - int(6.4 * GIB) - 1 * GIB) // 7 // MIB * MIB
    assert plan.workers[0].memory_bytes == expected
    assert plan.workers[0].dask_memory_limit_bytes == expected - NANNY_BYTES


def test_auto_on_two_cores_takes_both():
    """Where there are only two cores, none is left."""
    assert slices(plan_for(host=make_host(1, 2))) == [(0,), (1,)]


def test_auto_keeps_to_quota_affinity_and_memory():
    """Auto mode counts a CPU quota, an affinity and scarce memory, and says so."""
    plan = plan_for(host=make_host(1, 16, cpu_quota=4.5))
    assert len(plan.workers) == 3
    assert "4.5 CPUs' worth" in texts(plan, "info")
    plan = plan_for({"cpu_affinity": [5, 6]}, host=make_host(1, 16))
    assert slices(plan) == [(5,), (6,)]
    assert "narrows the cores" in texts(plan, "info")
    plan = plan_for(host=make_host(1, 16, memory_gb=8, memory_available_bytes=6 * GIB))
    assert len(plan.workers) == 2
    assert "cores for 15 workers, and memory for 2" in texts(plan, "info")
    plan = plan_for({"max_memory_gb": 3}, host=make_host(1, 16))
    assert len(plan.workers) == 2
    assert "narrows" in texts(plan, "info")


def test_auto_ignores_the_number_of_workers_and_says_so():
    """``n_max_threads`` in auto mode is ignored with a warning."""
    plan = plan_for({"n_max_threads": 1})
    assert len(plan.workers) == 3
    assert "n_max_threads" in texts(plan, "warning")


def test_a_launcher_in_a_control_group_plans_within_it():
    """What counts is the control group's limit, not the machine's memory."""
    host = make_host(1, 2, memory_gb=256, memory_limit_bytes=8 * GIB, memory_available_bytes=7 * GIB)
    plan = plan_for(host=host)
    assert plan.worker_memory_bytes == 5 * GIB
    with pytest.raises(PlanError, match=r"more than the 8 GiB of the control group"):
        plan_for(MANUAL | {"max_memory_gb": 9}, host=host)


def test_limits_are_not_bound_to_a_node_that_has_less():
    """A worker may take more than its node has: then it is not bound to the node, which would kill it."""
    plan = plan_for({**MANUAL, "n_max_threads": 1, "max_memory_gb": 40}, host=make_host(2, 4))
    assert plan.workers[0].cpuset_mems == ()
    assert "NUMA node 0" in texts(plan, "info")


def test_a_node_without_memory_is_never_named():
    """The kernel refuses a cpuset with such a node."""
    plan = plan_for(MANUAL, host=make_host(2, 4, node_memory_bytes={0: 64 * GIB, 1: 0}))
    assert [worker.cpuset_mems for worker in plan.workers] == [(0,), ()]
    assert plan.scheduler.cpuset_mems == ()


def test_memory_that_is_not_available_now_is_a_warning():
    """More than is free now, or more than there is together with the scheduler: allowed, with a warning."""
    host = make_host(memory_available_bytes=4 * GIB)
    assert "4 GiB available now" in texts(plan_for(MANUAL, host=host), "warning")
    plan = plan_for(MANUAL | {"max_memory_gb": 64})
    assert "64 GiB for workers and 1 GiB for the scheduler are more than the 64 GiB" in texts(plan, "warning")


@pytest.mark.parametrize(
    ("processing", "launch", "host", "message", "hint"),
    [
        (
            {"cpu_affinity": [0, 99]},
            {},
            {},
            r"cpu_affinity = \[0, 99\].* core 99 is not among the cores that this process may use, 0-3",
            "choose from 0-3",
        ),
        (
            MANUAL | {"cpu_affinity": [4, 5]},
            {},
            {"nodes": 1, "cores": 16, "allowed": {0, 1, 2, 3, 8}},
            r"4,5 are not among .* 0-3,8",
            "choose from 0-3,8",
        ),
        (
            MANUAL | {"n_max_threads": 20},
            {},
            {},
            r"max_memory_gb = 8(\.0)?.* leaves 409 MiB for each of 20 workers; .* needs at least 512 MiB",
            "lower n_max_threads to at most 16, or raise max_memory_gb to at least 10",
        ),
        (
            MANUAL | {"n_max_threads": 1, "max_memory_gb": 0.2},
            {},
            {},
            r"leaves 204 MiB for each of 1 worker; a worker needs at least 512 MiB",
            "raise max_memory_gb to at least 0.5",
        ),
        (
            MANUAL | {"max_memory_gb": 65},
            {},
            {},
            r"more than the 64 GiB of this machine",
            "lower max_memory_gb",
        ),
        (
            {},
            {},
            {"memory_gb": 2, "memory_available_bytes": 2 * GIB},
            r"Of 2 GiB available memory, 1 GiB in reserve .* 1 GiB for the scheduler leave 0 B for each",
            "free memory",
        ),
        (
            {"resource_mode": "manual", "n_max_threads": 200},
            {},
            {},
            r"leave 2\d\d MiB for each of 200 workers; a worker needs at least 512 MiB",
            "lower n_max_threads",
        ),
        ({"max_memory_gb": 0.25}, {}, {}, r"leaves 256 MiB for each of 1 worker", "raise max_memory_gb"),
        ({}, {"reserve_cores": 4}, {}, r"reserve_cores = 4.* leaves none of the 4 cores", "at most 3"),
        ({}, {"scheduler_memory_gb": 0.1}, {}, r"102 MiB; a scheduler needs at least 256 MiB", "0.25"),
        ({}, {"scheduler_memory_gb": 100}, {}, r"more than the 64 GiB of this machine", "lower"),
        ({}, {"cgroup_parent": "/canvod"}, {}, r"is not a slice", "canvod.slice"),
        ({}, {"writable": ["/spill/x"]}, {}, r"/spill/x of the host", "elsewhere"),
        ({}, {"read_only": ["/proc"]}, {}, r"/proc of the host", "elsewhere"),
        ({}, {"spill_dir": "/tmp"}, {}, r"/tmp of the host", "elsewhere"),
    ],
)
def test_refusals_say_what_is_observed_allowed_and_to_do(processing, launch, host, message, hint):
    """Each refusal names the field and its value, what was found, what is allowed and a remedy."""
    with pytest.raises(PlanError, match=message) as refusal:
        plan_for(processing, launch, host=make_host(**host))
    assert refusal.value.hint is not None
    assert hint in refusal.value.hint


def test_refusals_name_file_and_line(tmp_path: Path):
    """A refusal says where the value was given."""
    file = tmp_path / "processing.yaml"
    file.write_text("processing:\n  resource_mode: manual\n  n_max_threads: 2\n  max_memory_gb: 0.6\n")
    with pytest.raises(PlanError, match=r"processing\.yaml:4: processing\.max_memory_gb = 0\.6"):
        planned(load_settings(file, environ={}), make_host())


@pytest.mark.parametrize("name", ["", "Rosalia", "a b", "-x", "x" * 41, "a/b"])
def test_bad_names_are_refused(name):
    """A cluster's name goes into names of containers, so it must be good for these."""
    with pytest.raises(PlanError, match="cannot be the name"):
        plan_for(name=name)


def test_no_cpu_at_all_is_refused():
    """An inventory without CPUs is an error of its own, not a division by zero."""
    with pytest.raises(PlanError, match="may not use any CPU"):
        plan_for(host=make_host(allowed=set()))


def test_a_worker_of_a_plan():
    """One worker in full, as a docker backend would start it."""
    plan = plan_for(
        MANUAL | {"nice_priority": 10, "threads_per_worker": 2},
        {
            "environment": {"OMP_NUM_THREADS": "1", "SITE": "x"},
            "read_only": ["/data"],
            "writable": ["/stores"],
        },
        mounts=[Mount(path="/data", read_only=False), Mount(path="/more", read_only=True)],
        labels={"org.canvod.launch.owner": "me"},
    )
    worker = plan.workers[1]
    assert worker.name == "canvod-launch-test-worker-1"
    assert worker.image == "canvod-launch-worker:1-py3.14"
    assert worker.cpuset_cpus == (2, 3)
    assert worker.memory_bytes == 4 * GIB
    assert (worker.nice, worker.cpu_weight, worker.nthreads, worker.user) == (10, 11, 2, "1000:1000")
    assert worker.environment == {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "NUMEXPR_NUM_THREADS": "2",
        "NUMBA_NUM_THREADS": "2",
        "POLARS_MAX_THREADS": "2",
        "VECLIB_MAXIMUM_THREADS": "2",
        "SITE": "x",
        **PROCESS_VARIABLES,
    }
    assert worker.mounts == (
        Mount(path="/data", read_only=False),
        Mount(path="/more", read_only=True),
        Mount(path="/stores", read_only=False),
    )
    assert worker.labels == {
        "org.canvod.launch.cluster": "test",
        "org.canvod.launch.version": "1",
        "org.canvod.launch.role": "worker",
        "org.canvod.launch.worker": "1",
        "org.canvod.launch.owner": "me",
    }
    assert (worker.spill_path, worker.spill_bytes) == ("/spill", 10 * GIB)
    command = " ".join(worker.command)
    assert command.startswith("python -m canvod.launch.runtime.worker --scheduler tls://scheduler:8786 ")
    assert "--name worker-1 --nthreads 2" in command
    assert f"--memory-limit {4 * GIB - NANNY_BYTES} --cpu-affinity 2,3 --nice 10" in command
    assert f"--spill-path /spill --max-spill {10 * GIB}" in command
    assert plan.network.name == "canvod-launch-test"


def test_entry_points_take_the_commands_of_a_plan():
    """What the plan writes on a command line, the entry points read."""
    from canvod.launch.runtime import scheduler, worker

    plan = plan_for(MANUAL | {"nice_priority": 3}, {"start_timeout_s": 90})
    marker = plan.workers[0].command.index("canvod.launch.runtime.worker")
    options = worker.parse_arguments(plan.workers[0].command[marker + 1 :])
    assert options.memory_limit == plan.workers[0].dask_memory_limit_bytes
    assert options.nice == 3
    assert options.start_timeout == 90
    assert scheduler.parse_arguments(plan.scheduler.command[3:]).port == 8786


def test_spilling_to_a_folder_of_the_host():
    """``spill_dir`` is a writable mount under its own name, and where the worker spills."""
    plan = plan_for(MANUAL, {"spill_dir": "/scratch"})
    worker = plan.workers[0]
    assert worker.spill_path == "/scratch"
    assert Mount(path="/scratch", read_only=False) in worker.mounts
    assert worker.command[worker.command.index("--spill-path") + 1] == "/scratch"


@pytest.mark.parametrize(
    ("uid", "user", "environ", "expected"),
    [
        (1000, None, {}, "1000:1000"),
        (1000, "5:6", {}, "5:6"),
        (0, None, {"SUDO_UID": "1001", "SUDO_GID": "1002"}, "1001:1002"),
        (0, None, {"SUDO_UID": "0", "SUDO_GID": "0"}, "10001:10001"),
        (0, None, {"SUDO_UID": "x"}, "10001:10001"),
        (0, None, {}, "10001:10001"),
    ],
)
def test_containers_never_run_as_root(uid, user, environ, expected):
    """The caller's uid:gid; behind root whoever called sudo, else a number that nobody has."""
    plan = plan_for(launch={"user": user}, host=make_host(uid=uid, gid=uid), environ=environ)
    assert {container.user for container in (plan.scheduler, *plan.workers)} == {expected}


def test_a_plan_takes_the_names_of_images_from_its_caller():
    """Whoever calls says how images are called, and which Python they have where the settings do not."""
    plan = plan_for(image_for=lambda role, python: f"{role}-{python}", python="3.12")
    assert (plan.scheduler.image, plan.workers[0].image) == ("scheduler-3.12", "worker-3.12")
    plan = plan_for(launch={"python": "3.14"}, image_for=lambda _role, python: python, python="3.12")
    assert (plan.python, plan.workers[0].image) == ("3.14", "3.14")


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ({}, "CPUWeight=idle"),
        ({"cgroup_version": 1}, "CPUShares=2"),
        ({"cgroup_version": 1, "cgroup_driver": "cgroupfs"}, "/sys/fs/cgroup/cpu/canvod/cpu.shares"),
        ({"cgroup_driver": "cgroupfs"}, "/sys/fs/cgroup/canvod/cpu.idle"),
    ],
)
def test_weights_do_not_protect_people(engine, text):
    """A nice cluster without a parent group of its own: a warning, with the remedy on this engine."""
    plan = plan_for({"nice_priority": 5}, engine=make_engine(**engine))
    warnings = texts(plan, "warning")
    assert "not people who are logged in" in warnings
    assert text in warnings
    assert "not people" not in texts(plan_for({"nice_priority": 0}, engine=make_engine(**engine)), "warning")


def test_a_parent_group_decides():
    """With a parent group nothing is warned of, but its weight is what counts."""
    plan = plan_for({"nice_priority": 5}, {"cgroup_parent": "canvod.slice"})
    assert plan.workers[0].cgroup_parent == plan.scheduler.cgroup_parent == "canvod.slice"
    assert "not people" not in texts(plan, "warning")
    assert "canvod.slice" in texts(plan, "info")
    engine = make_engine(cgroup_driver="cgroupfs")
    plan = plan_for({}, {"cgroup_parent": "canvod.slice"}, engine=engine)
    assert "systemd knows nothing" in texts(plan, "warning")


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ({"missing_limits": ("memory",)}, "does not limit memory"),
        ({"missing_limits": ("swap",)}, "swapaccount=1"),
        ({"missing_limits": ("cpuset", "pids")}, "CPUSet false"),
        ({"runtime_version": ""}, "runc's version"),
    ],
)
def test_engines_that_enforce_less_are_named(engine, text):
    """What the kernel keeps an engine from, and one that does not tell its runtime, are warned of."""
    plan = plan_for({"nice_priority": 5}, engine=make_engine(**engine))
    assert text in texts(plan, "warning")
    assert ("none of it swap" in texts(plan, "info")) == ("swap" not in text)


def test_a_rootless_engine_is_refused():
    """The host cannot reach its containers; the message says what to do."""
    with pytest.raises(PlanError, match="rootless: its containers are in a network of their own") as caught:
        plan_for(engine=make_engine(rootless=True))
    assert "launch.backend: process" in str(caught.value)


@pytest.mark.parametrize(
    ("launch", "host", "groups"),
    [
        ({}, {"groups": (0, 27, 1000, 2000)}, (27, 2000)),  # not root's, not the primary one again
        ({}, {"groups": (27, 998)}, (27,)),  # not the one that may use the engine
        ({"user": "1000:2000"}, {"groups": (27,)}, (27, 1000)),
        ({"user": "1001:1001"}, {"groups": (27,)}, ()),
        ({}, {"uid": 0, "gid": 0, "groups": (0, 27)}, ()),
    ],
)
def test_workers_have_the_groups_of_the_caller(launch, host, groups):
    """Data of a lab belong to a group; somebody else's workers have none of the caller's."""
    plan = plan_for(None, launch, host=make_host(**host), engine=make_engine(socket_gid=998))
    assert {container.groups for container in (plan.scheduler, *plan.workers)} == {groups}


def test_processes_cannot_enforce_and_say_so():
    """The process backend: no caps, no cpusets, no weight, nothing hardened; and nothing that looks so."""
    plan = plan_for({"nice_priority": 5}, {"cgroup_parent": "x"}, backend="process", host=make_host(uid=0))
    notes = texts(plan, "warning") + texts(plan, "info")
    for word in (
        "limits are not enforced",
        "affinity",
        "CPU weight is not set",
        "hardened",
        "cgroup_parent",
    ):
        assert word in notes
    worker = plan.workers[0]
    assert (worker.command, worker.image, worker.cpu_shares, worker.spill_path) == ((), "", None, None)
    assert worker.cgroup_parent is None
    assert plan.backend == "process"


@pytest.mark.parametrize(("backend", "nanny_bytes"), [("docker", NANNY_BYTES), ("process", 0)])
def test_dasks_limit_is_what_was_asked_for_where_the_kernel_sets_none(backend, nanny_bytes):
    """512 MiB for a worker: a process gets all of it; in a container the nanny is within the same limit."""
    plan = plan_for(MANUAL | {"n_max_threads": 2, "max_memory_gb": 1}, backend=backend)
    assert {worker.memory_bytes for worker in plan.workers} == {512 * MIB}
    assert {worker.dask_memory_limit_bytes for worker in plan.workers} == {512 * MIB - nanny_bytes}


def test_a_pool_says_what_it_lacks():
    """Without Dask: the notice that limits need it."""
    assert "Dask is not installed" in texts(plan_for(backend="pool"), "warning")


def test_an_existing_scheduler_is_used_as_it_is():
    """With a scheduler's address nothing is started, so nothing of this host is checked."""
    plan = plan_for({"scheduler_address": "tcp://10.0.0.1:8786", "cpu_affinity": [99]})
    assert plan.backend == "remote"
    assert plan.workers == ()
    assert plan.scheduler.command == ()
    assert "Nothing is started" in texts(plan, "info")


def test_warnings_come_first():
    """A reader sees the warnings before anything else."""
    plan = plan_for(MANUAL | {"threads_per_worker": 9, "nice_priority": 5})
    levels = [note.level for note in plan.notes]
    assert levels == sorted(levels, reverse=True)
    assert {"info", "warning"} == set(levels)


def test_a_large_tmp_is_warned_of():
    """/tmp is memory of the worker's."""
    assert "/tmp" in texts(plan_for(MANUAL, {"tmp_mb": 2048}), "warning")


def test_workers_share_a_core_only_where_there_are_too_few():
    """Every way to slice up to 12 cores of two hardware threads: no more cores are shared than must be."""
    for cores in range(1, 13):
        cpus = [Cpu(id=n, core=(n % cores, n % cores + cores), node=0) for n in range(2 * cores)]
        for per_worker in range(1, 9):
            for workers in range(1, 2 * cores // per_worker + 1):
                found = slice_cores(cpus, workers, per_worker).slices
                taken = [cpu for ids in found for cpu in ids]
                assert len(taken) == len(set(taken)) == workers * per_worker
                owners = [
                    {number for number, ids in enumerate(found) if {n, n + cores} & {*ids}}
                    for n in range(cores)
                ]
                shared = sum(len(numbers) > 1 for numbers in owners)
                missing = workers * -(-per_worker // 2) - cores
                assert shared <= max(0, missing), (cores, per_worker, workers)
