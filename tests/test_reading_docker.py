"""What a user names is what workers in containers see, and a store is read back from there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from canvod.launch import DaskClusterManager, ingest_files, open_group, open_store
from canvod.launch.errors import InputError
from ingest_files import assert_holds, run_inline, write_window, write_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.slow]

GROUP = "site/receiver"
SETTINGS: dict[str, Any] = {
    "processing": {"resource_mode": "manual", "n_max_threads": 1, "max_memory_gb": 1},
    "launch": {"backend": "docker", "dashboard_port": 0},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disks of a lab, and its folders, which are links to them; stores hold the same two files.

    ========================  ==========================================
    ``data``                  link to ``disks/raid``
    ``data/in``               files, with a link to more of them
    ``data/far``              relative link to ``disks/ssd/far``
    ``data/stores``           absolute link to ``disks/ssd/stores``
    ``data/same``             relative link to ``data/in``
    ``elsewhere``             a store that nobody names
    ========================  ==========================================
    """
    lab = tmp_path_factory.mktemp("lab")
    for folder in (lab, lab.parent):
        folder.chmod(0o755)
    raid, ssd = lab / "disks" / "raid", lab / "disks" / "ssd"
    files = write_windows(raid / "in", [0, 10])
    write_window(ssd / "late" / "late.rnx", 20)
    write_window(ssd / "later.rnx", 30)
    for place in (
        ssd / "far" / "store",
        ssd / "stores" / "store",
        raid / "deep" / "store",
        lab / "elsewhere",
    ):
        run_inline(files, place)
    for folder in (ssd / "stores" / "store", raid / "deep" / "store", raid / "deep", ssd / "stores"):
        folder.chmod(0o777)
    for link, target in {
        lab / "data": raid,
        raid / "in" / "late": "../../ssd/late",
        raid / "in" / "later.rnx": "../../ssd/later.rnx",
        raid / "far": "../ssd/far",
        raid / "stores": ssd / "stores",
        raid / "same": "in",
    }.items():
        link.symlink_to(target)
    return lab


@pytest.fixture(scope="module")
def manager(images: object, lab: Path) -> Iterator[DaskClusterManager]:
    """A worker that sees the folders by names with links in them."""
    del images
    with DaskClusterManager(
        SETTINGS,
        read_only=[f"{lab}/data/", lab / "data" / "far", lab / "disks" / "raid" / "deep"],
        writable=[lab / "data" / "in" / ".." / "stores", lab / "data" / "deep" / "store"],
    ) as manager:
        yield manager


@pytest.mark.parametrize(
    ("name", "writable"),
    [
        ("data", False),
        ("data/in", False),
        ("data/same", False),
        ("data/far/store", False),
        ("data/stores/store", True),
        ("data/deep", False),
        ("data/deep/store", True),
        ("disks/raid/in", False),
        ("disks/raid/deep/store", True),
        ("disks/ssd/far", False),
        ("disks/ssd/stores", True),
    ],
)
def test_workers_see_what_was_named(
    manager: DaskClusterManager, lab: Path, name: str, *, writable: bool
) -> None:
    """A folder by its name, by what links lead to, and a writable one within what is read only."""
    path = str(lab / name)
    submit = manager.task_client.submit
    assert sorted(submit(os.listdir, path).result(30)) == sorted(
        entry.name for entry in (lab / name).iterdir()
    )
    assert submit(os.access, path, os.W_OK).result(30) is writable


@pytest.mark.parametrize("name", ["data/far/store", "data/stores/store", "disks/raid/deep/store"])
def test_a_group_is_read_in_containers(
    manager: DaskClusterManager, lab: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under names with links in them, and under relative ones."""
    manager.task_client.wait_for_workers(1, timeout=60)
    expected = xr.open_zarr(open_store(lab / "elsewhere"), group=GROUP, chunks=None).SNR
    monkeypatch.chdir(lab / "data")
    for path in (lab / name, Path("..") / ".." / name if name.startswith("disks") else Path(name[5:])):
        found = open_group(path, GROUP).SNR
        assert found.mean().compute() == expected.mean()
        assert np.array_equal(found.values, expected.values, equal_nan=True)


def test_a_store_that_workers_do_not_see_is_told_before_anything_is_computed(
    manager: DaskClusterManager, lab: Path
) -> None:
    """With the settings that show it; and it can be read here."""
    manager.task_client.wait_for_workers(1, timeout=60)
    with pytest.raises(InputError, match=r"1 of 1 workers of tls://.* cannot see the store") as caught:
        open_group(lab / "elsewhere", GROUP)
    for word in (f'read_only=["{lab}/elsewhere"]', f"--read-only {lab}/elsewhere", "launch.read_only"):
        assert word in str(caught.value.hint)
    assert xr.open_zarr(open_store(lab / "elsewhere"), group=GROUP, chunks=None).SNR.notnull().any()


PROGRAM = """
import sys
from pathlib import Path
import distributed
from canvod.launch import open_group
client = distributed.Client()
print(float(open_group("store", "site/receiver").SNR.mean().compute()))
try:
    client.submit(Path.write_text, Path.cwd() / "new", "").result()
except OSError as refusal:
    print(refusal.strerror)
"""


def test_a_command_reads_what_is_in_its_folder(images: object, lab: Path) -> None:
    """A store in the current folder needs no option; it is shown for reading only, which is said."""
    del images
    command = [
        sys.executable,
        "-c",
        "import sys; from canvod.launch.cli import main; sys.exit(main())",
        "run",
    ]
    here = lab / "disks" / "ssd" / "stores"
    done = subprocess.run(
        [*command, "--workers", "1", "--backend", "docker", "--", sys.executable, "-c", PROGRAM],
        cwd=here,
        env=os.environ | {"CANVOD_LAUNCH__DASHBOARD_PORT": "0", "PWD": str(lab / "data" / "stores")},
        capture_output=True,
        text=True,
        check=False,
    )
    mean = float(open_group(here / "store", GROUP).SNR.mean().compute(scheduler="sync"))
    assert done.stdout == f"{mean}\nRead-only file system\n", done.stderr
    assert f"which see {lab}/data/stores (read only), {here} (read only)" in done.stderr


HIDDEN = """
import os, sys
from canvod.launch import DaskClusterManager
os.mkdir("project")
os.chdir("project")
with DaskClusterManager(n_workers=1, memory_limit_per_worker="1GiB", backend="docker") as manager:
    print(manager.task_client.submit(os.path.exists, os.getcwd()).result())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a file system that the engine does not see")
def test_a_current_folder_that_the_engine_cannot_mount_is_left_out(images: object, tmp_path: Path) -> None:
    """As with a home on NFS that is closed to root: the cluster starts without it, and says so."""
    del images
    script = f'mount -t tmpfs none {tmp_path} && cd {tmp_path} && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, HIDDEN], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n", done.stderr
    assert "current_folder_not_shown" in done.stderr
    assert f"{tmp_path}/project" in done.stderr


def test_an_ingest_takes_files_and_a_store_under_names_with_links(images: object, lab: Path) -> None:
    """Files are found through links below what was named; they are known by the names that were given."""
    del images
    store = lab / "data" / "stores" / "new"
    assert_ingests(lab, store, config=SETTINGS)
    assert (lab / "disks" / "ssd" / "stores" / "new").is_dir()


def assert_ingests(lab: Path, store: Path, **options: Any) -> None:
    """Ingest the files of the lab, and assert which they are."""
    report = ingest_files(lab / "data" / "in", store, GROUP, **options)
    named, real = {lab / "data" / "in" / f"{n:05d}.rnx" for n in (0, 10)}, lab / "disks" / "ssd"
    paths = [*sorted(map(str, named)), str(real / "late" / "late.rnx"), str(real / "later.rnx")]
    assert sorted(file.path for file in report.stored) == paths
    assert_holds(open_group(store, GROUP).compute(scheduler="sync"), paths)


def test_an_ingest_on_a_managers_cluster(images: object, lab: Path) -> None:
    """What its workers do not see, or may not write, is refused at once; the rest is stored and read back."""
    del images
    inputs, stores = lab / "disks" / "raid" / "in", lab / "disks" / "ssd"
    with DaskClusterManager(SETTINGS, read_only=[inputs, lab / "disks"], writable=[stores]) as manager:
        with pytest.raises(InputError, match="cannot see") as caught:
            ingest_files(lab / "data" / "in", stores / "x", GROUP, cluster=manager)
        assert f"name it {inputs}, as they see it; or start it with DaskClusterManager(" in str(caught.value)
        with pytest.raises(InputError, match="cannot write") as caught:
            ingest_files(inputs, lab / "disks" / "x", GROUP, cluster=manager)
        assert f'DaskClusterManager(writable=["{lab}/disks"])' in str(caught.value)
        report = ingest_files(inputs, stores / "mine", GROUP, cluster=manager)
        assert len(report.stored) == 4
        found = open_group(stores / "mine", GROUP).SNR.mean().compute()
        assert found == open_group(stores / "mine", GROUP).SNR.mean().compute(scheduler="sync")
        assert manager.task_client.status == "running"
