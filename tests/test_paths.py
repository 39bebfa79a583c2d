"""A path stays what its user named, and containers are shown it under that name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from canvod.launch.cluster.mounts import make_mounts, require_visible
from canvod.launch.cluster.planning import plan_here
from canvod.launch.config import load_settings
from canvod.launch.errors import InputError
from canvod.launch.ingest.discover import discover
from canvod.launch.paths import absolute
from canvod.launch.plan.model import Mount

RELATIVE_IN_NO_FOLDER = """
import os, sys
from canvod.launch.errors import InputError
from canvod.launch.paths import absolute
os.rmdir(os.getcwd())
print(absolute("/a"))
try:
    absolute("b")
except InputError as refusal:
    print(refusal.message)
"""


@pytest.fixture
def links(tmp_path):
    """``data`` leads to ``disks/raid``, which holds ``in``."""
    (tmp_path / "disks" / "raid" / "in").mkdir(parents=True)
    (tmp_path / "data").symlink_to("disks/raid")
    return tmp_path


def test_a_path_is_made_absolute_and_keeps_its_links(links, monkeypatch):
    """``~`` is expanded where there is such a user; ``..`` after a link means what it means to the kernel."""
    monkeypatch.chdir(links)
    monkeypatch.setenv("HOME", "/home/ada")
    assert absolute("data/in/") == links / "data" / "in"
    assert absolute(Path("data/./in//../in")) == links / "data" / "in"
    assert absolute("data/../raid") == links / "disks" / "raid"
    assert absolute("~/store") == Path("/home/ada/store")
    assert absolute("~nobody-of-this-name/store") == links / "~nobody-of-this-name" / "store"
    assert absolute("/../..//x/..") == Path("/")


def test_without_a_current_folder_only_whole_paths_have_a_meaning(tmp_path):
    """A relative one is refused in words."""
    folder = tmp_path / "gone"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RELATIVE_IN_NO_FOLDER], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stdout == "/a\nb is looked up from the current folder, which is not there any more\n"


def test_workers_are_shown_a_path_by_its_name_and_by_what_it_leads_to(links):
    """In settings and in arguments; but never what a container has of its own."""
    both = (str(links / "data"), str(links / "disks" / "raid"))
    assert make_mounts([links / "data"], []) == tuple(Mount(path=path, read_only=True) for path in both)
    (links / "scratch").symlink_to("/tmp")
    assert make_mounts([], [links / "scratch"]) == (Mount(path=f"{links}/scratch", read_only=False),)
    settings = load_settings({"launch": {"read_only": [str(links / "data")]}})
    plan = plan_here(settings, "x", backend="docker", mounts=make_mounts([], [links / "data" / "in"]))
    assert {mount.path: mount.read_only for mount in plan.workers[0].mounts} == {
        **dict.fromkeys(both, True),
        **{f"{path}/in": False for path in both},
    }


def test_a_job_is_told_the_name_by_which_workers_see_its_files(links):
    """Of a cluster that stands already, whose folders have been named otherwise."""
    mounts = make_mounts([links / "disks"], [])
    plan = plan_here(load_settings(None), "lab", backend="docker", mounts=mounts, standing=True)
    with pytest.raises(InputError, match=f"cannot see {links}/data/in; they see {links}/disks ") as caught:
        require_visible(plan, [links / "data" / "in"], [])
    assert str(caught.value.hint).startswith(f"name it {links}/disks/raid/in, as they see it; or start")


def test_files_are_known_by_the_names_that_were_given(links):
    """What a link leads to within a folder is named by its own name: the link may not hold in a container."""
    for name in ("disks/raid/in/a0010.25o", "disks/ssd/b0010.25o", "disks/ssd/more/c0010.25o"):
        (links / name).parent.mkdir(exist_ok=True)
        (links / name).write_bytes(b"x")
    (links / "data" / "in" / "b0010.25o").symlink_to("../../ssd/b0010.25o")
    (links / "data" / "in" / "more").symlink_to("../../ssd/more")
    given = [
        links / "data",
        links / "disks" / "raid" / "in" / "a0010.25o",
        links / "data" / "in" / "b0010.25o",
    ]
    found = discover(given)
    assert {str(file.path.relative_to(links)) for file in found.files} == {
        "data/in/a0010.25o",
        "disks/ssd/b0010.25o",
        "disks/ssd/more/c0010.25o",
    }
    assert sum(found.ignored.values()) == 2
