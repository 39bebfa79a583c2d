"""A path stays what its user named, and containers are shown it under that name."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from canvod.launch.cli.plan_view import plan_json
from canvod.launch.cluster.host_paths import make_mounts, require_visible, show_current_folder
from canvod.launch.cluster.preparation import StartRequest, plan_request
from canvod.launch.config import load_settings
from canvod.launch.errors import InputError
from canvod.launch.ingest.discover import discover
from canvod.launch.paths import absolute, is_folder
from canvod.launch.plan.model import Mount

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.plan.model import BackendName, ClusterPlan

RELATIVE_IN_NO_FOLDER = """
import os
from canvod.launch.errors import InputError
from canvod.launch.paths import absolute
os.rmdir(os.getcwd())
print(absolute("/a"))
try:
    absolute("b")
except InputError as refusal:
    print(refusal.message)
"""


def plan_for(
    settings: Settings, backend: BackendName = "docker", *, name: str = "x", **options: Any
) -> ClusterPlan:
    """Plan a cluster for this host."""
    return plan_request(StartRequest(settings=settings, name=name, **options), backend)


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
    plan = plan_request(
        StartRequest(settings=settings, name="x", mounts=make_mounts([], [links / "data" / "in"])), "docker"
    )
    assert {mount.path: mount.read_only for mount in plan.workers[0].mounts} == {
        **dict.fromkeys(both, True),
        **{f"{path}/in": False for path in both},
    }


@pytest.fixture
def caller(links, monkeypatch):
    """Somebody whose home is ``home/ada``, with a project in it; the caller of `show_current_folder`."""
    (links / "home" / "ada" / "project").mkdir(parents=True)
    (links / "project").symlink_to("home/ada/project")

    def call(folder, *mounts, **environ):
        monkeypatch.chdir(folder)
        uid = int(environ.pop("uid", os.getuid()))
        shown, reason = show_current_folder(mounts, uid, {uid}, {"HOME": f"{links}/home/ada", **environ})
        assert all(mount.read_only and mount.optional for mount in shown)
        return [mount.path for mount in shown], reason

    return call


def test_the_current_folder_is_shown(links, caller):
    """By its own name, and by the one that the shell has for it; not where it is shown already."""
    project = links / "home" / "ada" / "project"
    assert caller(project) == ([str(project)], "")
    named = str(links / "project")
    assert caller(project, PWD=named) == ([named, str(project)], "")
    for other in (str(links / "data"), "."):
        assert caller(project, PWD=other) == ([str(project)], "")
    for mount in (Mount(path=str(project), read_only=False), Mount(path=str(links), read_only=False)):
        assert caller(project, mount) == ([], "")


def test_a_home_is_never_shown(links, caller):
    """Nor what holds one, or what a container has of its own; each with its reason."""
    home = links / "home" / "ada"
    (links / "linked").symlink_to(home)
    for folder, environ in (
        (home, {}),
        (home.parent, {}),
        ("/", {}),
        (home, {"HOME": str(links / "linked")}),
        (pwd.getpwuid(os.getuid()).pw_dir, {}),
    ):
        paths, reason = caller(folder, **environ)
        assert not paths
        assert f"The current folder {folder} is not shown: it is, or holds, a home." in reason
    for folder in ("/tmp", "/proc", "/dev/shm", "/opt", "/usr/lib", "/etc", "/run"):
        paths, reason = caller(folder, HOME="/home/ada")
        assert not paths
        assert f"The current folder {folder} is not shown: containers have one of their own." in reason


def test_a_folder_that_workers_may_not_look_into_is_not_shown(links, caller):
    """As of root, whose workers are somebody else: it would close what is mounted below it."""
    folder = links / "disks"
    folder.chmod(0o711)
    assert caller(folder) == ([str(folder)], "")
    paths, reason = caller(folder, uid="12345")
    assert not paths
    assert "is not shown: uid 12345, as which workers run, may not look into it." in reason
    folder.chmod(0o755)
    assert caller(folder, uid="12345") == ([str(folder)], "")


def test_the_home_of_the_user_of_sudo_is_not_shown_either(links, caller):
    """With sudo HOME may be root's."""
    users = {each.pw_dir: each for each in pwd.getpwall() if each.pw_dir.startswith("/var/")}
    home = next((path for path in users if os.path.realpath(path) == path and is_folder(path)), None)
    if home is None:
        pytest.skip("no user of this machine has a home below /var")
    assert caller(home, SUDO_UID=str(users[home].pw_uid))[0] == []
    assert caller(home)[0] == [home]
    assert caller(links / "disks", SUDO_UID="nonsense")[0] == [str(links / "disks")]


def test_a_current_folder_that_is_gone_is_none(tmp_path):
    """It is told, and nothing fails."""
    (tmp_path / "gone").mkdir()
    program = """
import os
from canvod.launch.cluster.preparation import StartRequest, plan_request
from canvod.launch.config import load_settings
os.rmdir(os.getcwd())
plan = plan_request(StartRequest(settings=load_settings(None), name="x", current_folder=True), "docker")
print(plan.notes[-1].text)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "gone", capture_output=True, text=True, check=False
    )
    assert done.stdout == "Workers see nothing of this host. There is no current folder any more.\n", (
        done.stderr
    )


@pytest.mark.parametrize(("detached", "seen"), [(False, "{} (read only)"), (True, "nothing of this host")])
def test_a_plan_says_what_workers_see(tmp_path, monkeypatch, detached, seen):
    """The current folder is shown to a cluster that ends with its program, and not to a detached one."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    plan = plan_for(load_settings(None), current_folder=not detached, detached=detached)
    assert f"Workers see {seen.format(tmp_path)}." in [note.text for note in plan.notes]
    assert json.loads(plan_json(plan))["workers"][0]["mounts"] == (
        [] if detached else [{"path": str(tmp_path), "read_only": True, "optional": True}]
    )
    process = plan_request(
        StartRequest(settings=load_settings(None), name="x", current_folder=True), "process"
    )
    assert not any("Workers see" in note.text for note in process.notes)


def test_a_job_is_told_the_name_by_which_workers_see_its_files(links):
    """Of a cluster that runs already, whose folders have been named otherwise."""
    mounts = make_mounts([links / "disks"], [])
    plan = plan_request(
        StartRequest(settings=load_settings(None), name="lab", mounts=mounts, detached=True), "docker"
    )
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
