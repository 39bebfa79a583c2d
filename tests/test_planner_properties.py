"""What holds for every plan, whatever the host and the settings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from canvod.launch.dask_memory_limit import NANNY_BYTES
from canvod.launch.errors import PlanError
from canvod.launch.host.cpulist import format_cpulist, parse_cpulist
from canvod.launch.host.inventory import HostInventory
from canvod.launch.plan.cores import nodes_of, slice_cores
from canvod.launch.plan.model import ClusterPlan
from canvod.launch.plan.priority import (
    SCHED_PRIO_TO_WEIGHT,
    conversion,
    cpu_priority,
    linear_weight,
    quadratic_weight,
    shares_for_weight,
)
from canvod.launch.plan.sizing import MIN_WORKER_BYTES
from canvod.launch.units import bytes_of_gib
from plan_strategies import cases, engines, fitting_cases, hosts, make_engine, planned

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory


def plan_for(settings: Settings, host: HostInventory, engine: EngineInventory | None = None) -> ClusterPlan:
    """Plan containers."""
    return planned(settings, host, engine=engine)


@given(case=cases(), engine=st.none() | engines, backend=st.sampled_from(["docker", "process", "pool"]))
def test_what_does_not_fit_is_refused_with_a_remedy(case, engine, backend):
    """Whatever valid settings meet whatever host: there is a plan, or a PlanError that says what to do."""
    settings, host = case
    refusal: PlanError | None = None
    try:
        planned(settings, host, backend=backend, engine=engine)
    except PlanError as error:
        refusal = error
    event("planned" if refusal is None else "refused")
    assert refusal is None or refusal.hint


@given(case=fitting_cases(), engine=st.none() | engines)
def test_limits_hold(case, engine):
    """No plan gives away cores or memory that the host or the settings do not grant."""
    settings, host = case
    plan = plan_for(settings, host, engine)
    event(plan.resource_mode)
    processing = settings.processing
    allowed = {cpu.id for cpu in host.cpus}
    chosen = allowed if processing.cpu_affinity is None else set(processing.cpu_affinity)
    ceiling = min(host.memory_total_bytes, host.memory_limit_bytes or host.memory_total_bytes)

    assert plan.workers
    for worker in plan.workers:
        assert set(worker.cpuset_cpus) <= allowed & chosen
        assert worker.cpuset_cpus == tuple(sorted(set(worker.cpuset_cpus)))
        assert worker.cpuset_cpus
        assert worker.memory_bytes >= MIN_WORKER_BYTES
        assert worker.dask_memory_limit_bytes == worker.memory_bytes - NANNY_BYTES
        assert worker.nthreads == processing.threads_per_worker
        assert worker.nice == processing.nice_priority
        assert not worker.user.startswith("0:")
    assert set(plan.scheduler.cpuset_cpus) <= allowed & chosen
    assert {cpu for worker in plan.workers for cpu in worker.cpuset_cpus} <= set(plan.scheduler.cpuset_cpus)
    assert plan.worker_memory_bytes <= ceiling
    if processing.max_memory_gb is not None:
        assert plan.worker_memory_bytes <= bytes_of_gib(processing.max_memory_gb)
    if plan.resource_mode == "manual":
        assert len(plan.workers) == processing.n_max_threads
    else:
        assert plan.worker_memory_bytes + plan.scheduler.memory_bytes <= host.memory_available_bytes
        used = {cpu for worker in plan.workers for cpu in worker.cpuset_cpus}
        assert len(used) <= len(allowed) - (settings.launch.reserve_cores or 0)
        assert host.cpu_quota is None or len(used) <= max(1, host.cpu_quota)


@given(case=fitting_cases())
def test_cores_are_disjoint_or_shared_by_all(case):
    """Workers have cores of their own, as many as threads; else all share all, and a warning says so."""
    settings, host = case
    plan = plan_for(settings, host)
    threads = settings.processing.threads_per_worker
    owners = Counter(cpu for worker in plan.workers for cpu in worker.cpuset_cpus)
    warnings = [note.text for note in plan.notes if note.level == "warning"]
    if plan.cores_shared:
        assert len({worker.cpuset_cpus for worker in plan.workers}) == 1
        assert len(plan.workers) * threads > len(owners)
        assert any("share cores" in text for text in warnings)
    else:
        assert set(owners.values()) == {1}
        for worker in plan.workers:
            own = len(worker.cpuset_cpus)
            assert own == threads or (len(plan.workers) == 1 and own < threads)
            assert own == threads or any("threads_per_worker" in text for text in warnings)


@given(host=hosts(), workers=st.integers(1, 40), per_worker=st.integers(1, 8))
def test_workers_span_numa_nodes_only_where_none_has_room(host, workers, per_worker):
    """As many workers as possible lie on a single node, and the others are named."""
    assume(workers * per_worker <= len(host.cpus))
    cores = slice_cores(host.cpus, workers, per_worker)
    room = Counter(cpu.node for cpu in host.cpus)
    capacity = sum(size // per_worker for size in room.values())
    spanning = tuple(n for n, ids in enumerate(cores.slices) if len(nodes_of(host.cpus, ids)) > 1)
    assert spanning == cores.spanning
    assert len(spanning) == max(0, workers - capacity)


@given(host=hosts(), workers=st.integers(1, 40), per_worker=st.integers(1, 8))
def test_siblings_stay_together(host, workers, per_worker):
    """A worker has one hardware thread of each core where a node has cores enough, else whole cores.

    Two workers meet on a physical core only where the node has fewer whole cores than its workers need.
    """
    assume(workers * per_worker <= len(host.cpus))
    cores = slice_cores(host.cpus, workers, per_worker)
    core_of = {cpu.id: cpu.core for cpu in host.cpus}
    for node in {cpu.node for cpu in host.cpus}:
        here = [ids for ids in cores.slices if nodes_of(host.cpus, ids) == (node,)]
        sizes = Counter(cpu.core for cpu in host.cpus if cpu.node == node)
        if len(here) * per_worker <= len(sizes):
            assert all(len({core_of[cpu] for cpu in ids}) == per_worker for ids in here)
        if set(sizes.values()) == {2} and not cores.spanning:
            owners: dict[tuple[int, ...], set[int]] = {}
            for number, ids in enumerate(here):
                for cpu in ids:
                    owners.setdefault(core_of[cpu], set()).add(number)
            met = sum(len(who) > 1 for who in owners.values())
            whole = -(-per_worker // 2) * len(here)
            if len(here) * per_worker > len(sizes):
                assert met <= max(0, whole - len(sizes))


@given(case=fitting_cases())
def test_memory_is_taken_from_the_nodes_of_the_cores(case):
    """``cpuset_mems`` are the nodes of the cores, or all where these have less memory than the limits."""
    settings, host = case
    plan = plan_for(settings, host)
    for container in (plan.scheduler, *plan.workers):
        nodes = nodes_of(host.cpus, container.cpuset_cpus)
        if container.cpuset_mems:
            assert container.cpuset_mems == nodes
            assert all(host.node_memory_bytes.get(node, 1) > 0 for node in nodes)
        else:
            assert len(host.node_memory_bytes) > 1 or 0 in host.node_memory_bytes.values()
    if len(host.node_memory_bytes) > 1:
        for node, memory in host.node_memory_bytes.items():
            bound = [worker for worker in plan.workers if worker.cpuset_mems == (node,)]
            assert sum(worker.memory_bytes for worker in bound) <= memory


@given(case=fitting_cases(), engine=engines, data=st.data())
def test_same_plan_from_a_reordered_inventory(case, engine, data):
    """A plan depends on what a host is, not on the order in which it was read; it is always the same."""
    settings, host = case
    plan = plan_for(settings, host, engine)
    values = host.model_dump()
    values["cpus"] = data.draw(st.permutations(values["cpus"]))
    values["node_memory_bytes"] = dict(reversed(values["node_memory_bytes"].items()))
    assert plan_for(settings, HostInventory.model_validate(values), engine) == plan


@given(case=fitting_cases(), engine=engines, backend=st.sampled_from(["docker", "process", "pool", "remote"]))
def test_json_round_trips(case, engine, backend):
    """A plan's JSON is the plan."""
    settings, host = case
    plan = planned(settings, host, backend=backend, engine=engine)
    assert ClusterPlan.model_validate_json(plan.model_dump_json()) == plan


@given(case=fitting_cases(), engine=engines)
def test_names_and_labels_tell_objects_apart(case, engine):
    """Every container has a name of its own, and labels with cluster, role and worker."""
    settings, host = case
    plan = plan_for(settings, host, engine)
    containers = (plan.scheduler, *plan.workers)
    assert len({container.name for container in containers}) == len(containers)
    for index, worker in enumerate(plan.workers):
        assert worker.name == f"canvod-launch-test-worker-{index}"
        assert worker.labels["org.canvod.launch.worker"] == str(index)
    for labels in (plan.network.labels, *(container.labels for container in containers)):
        assert labels["org.canvod.launch.cluster"] == "test"
        assert labels["org.canvod.launch.version"] == "1"


@given(st.sets(st.integers(0, 300)))
def test_cpulists_round_trip(ids):
    """Writing and reading a CPU list gives the same CPUs."""
    assert parse_cpulist(format_cpulist(ids)) == tuple(sorted(ids))


@pytest.mark.parametrize(
    ("cgroup_version", "runtime", "convert"),
    [(1, "1.1.5", lambda shares: shares), (2, "1.1.5", linear_weight), (2, "1.3.2", quadratic_weight)],
)
def test_weights_fall_with_nice(cgroup_version, runtime, convert):
    """The nicer, the lighter; and what the runtime makes of the shares is the weight of the plan."""
    priorities = [
        cpu_priority(nice, None, cgroup_version=cgroup_version, runtime_version=runtime) for nice in range(20)
    ]
    weights = [priority.weight for priority in priorities]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == (1024 if cgroup_version == 1 else 100)
    assert priorities[0].shares is None
    for nice, priority in list(enumerate(priorities))[1:]:
        assert priority.shares is not None
        assert convert(priority.shares) == priority.weight
        share = SCHED_PRIO_TO_WEIGHT[nice] / 1024
        # Small weights are whole numbers too.
        assert priority.weight / weights[0] == pytest.approx(share, abs=0.5 / weights[0])


@given(weight=st.integers(1, 10_000), runtime=st.sampled_from(["1.1.5", "1.3.2", "crun 1.22", "crun 1.23"]))
def test_any_weight_can_be_reached(weight, runtime):
    """There are shares for every weight, on the old curve and on the new one."""
    convert = conversion(runtime)
    assert convert(shares_for_weight(weight, convert)) == weight


@pytest.mark.parametrize(
    ("runtime", "convert"),
    [
        ("", linear_weight),
        ("1.1.5", linear_weight),
        ("1.3.0-rc.2", linear_weight),
        ("1.3.1", linear_weight),
        ("1.3.2", quadratic_weight),
        ("1.4.0-rc.1", quadratic_weight),
        ("1.10", quadratic_weight),
        ("crun 1.22.1", linear_weight),
        ("crun 1.23", quadratic_weight),
    ],
)
def test_weights_are_converted_as_the_runtimes_version_does(runtime, convert):
    """The quadratic curve came with runc 1.3.2 and crun 1.23."""
    assert conversion(runtime) is convert


def test_conversions_are_the_runtimes():
    """Values that runc's and crun's own tests and bug reports give."""
    assert [linear_weight(shares) for shares in (2, 64, 1024, 2000, 262144)] == [1, 3, 39, 77, 10000]
    assert [quadratic_weight(shares) for shares in (2, 1024, 2000, 22000, 262144)] == [
        1,
        100,
        170,
        1204,
        10000,
    ]


@given(case=fitting_cases())
def test_weights_of_a_plan_are_the_kernels(case):
    """A plan's weight is what the engine's runtime makes of the plan's shares, on every engine."""
    settings, host = case
    for engine in (
        make_engine(cgroup_version=1, cgroup_driver="cgroupfs"),
        make_engine(runtime_version="1.1.15", cgroup_driver="cgroupfs"),
        make_engine(runtime_version="1.4.0", cgroup_driver="cgroupfs"),
    ):
        plan = plan_for(settings, host, engine)
        for container in (plan.scheduler, *plan.workers):
            if container.cpu_shares is None:
                assert container.cpu_weight == (1024 if engine.cgroup_version == 1 else 100)
            elif engine.cgroup_version == 1:
                assert container.cpu_weight == container.cpu_shares
            else:
                assert conversion(engine.runtime_version)(container.cpu_shares) == container.cpu_weight
                if (weight := settings.launch.cpu_weight) is not None:
                    assert container.cpu_weight == weight
