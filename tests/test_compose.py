"""compose.yaml, its settings, and the file that a plan is written as: without an engine."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

from canvod.launch.cli import main
from canvod.launch.cluster.tls import ROLES, KeyFolder, make_keys
from canvod.launch.config import Settings
from canvod.launch.detached.compose_file import REFUSAL, client_environment, compose_file, compose_text
from canvod.launch.detached.key_volumes import fill_volumes
from canvod.launch.detached.key_volumes import main as fill
from canvod.launch.docker.create_request import NETWORK_OPTIONS, create_request
from canvod.launch.errors import ImageError, KeysError, PlanError
from canvod.launch.host.labels import OWNER_LABEL
from canvod.launch.images import compose_build
from canvod.launch.images.base_image import BaseImage
from canvod.launch.images.build_network import BuildNetwork
from canvod.launch.plan.host_access import container_user
from canvod.launch.plan.model import ClusterPlan, Mount
from plan_strategies import fitting_cases, make_engine, make_host, make_settings, planned

TOP = Path(__file__).resolve().parent.parent
COMPOSE = (TOP / "compose.yaml").read_text()
NOT_ROOT = "CANVOD_USER-is-not-root"
OWNS_KEYS = "CANVOD_USER-owns-the-keys"
VARIABLE = re.compile(r"\$\{(CANVOD_\w+)(?::-([^}]*))?\}")


def defaults() -> dict[str, str]:
    """Read .env."""
    lines = (TOP / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def services() -> dict[str, Any]:
    """Read compose.yaml as Compose does with nothing set."""
    found: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda found: found[2] or "", COMPOSE))["services"]
    return found


def detached_plan(processing: dict[str, Any] | None = None, **arguments: Any) -> ClusterPlan:
    """Plan a detached cluster, on a host with 2 NUMA nodes unless told otherwise."""
    given: dict[str, Any] = {"name": "pinned", "engine": make_engine(), "detached": True} | arguments
    settings = given.pop("settings", None) or make_settings(processing=processing or {})
    return planned(settings, given.pop("host", None) or make_host(nodes=2), **given)


def test_every_setting_is_documented():
    """.env and compose.yaml know the same variables, with the same defaults, each with a comment above it."""
    used = dict(VARIABLE.findall(COMPOSE))
    assert used == defaults()
    assert len(VARIABLE.findall(COMPOSE)) == COMPOSE.count("${CANVOD_") - COMPOSE.count("${CANVOD_...}")
    for name, default in VARIABLE.findall(COMPOSE):
        assert used[name] == default, f"{name} has two defaults"
    text = (TOP / ".env").read_text()
    for block in text.split("\n\n"):
        assert block.startswith("#"), block


def test_compose_yaml_is_up_to_date():
    """It has the services of a written plan; ``make compose-file`` writes it."""
    assert runpy.run_path(str(TOP / "scripts/compose-file"))["compose_yaml"]() == COMPOSE, "make compose-file"


def test_root_is_refused_by_a_service_whose_name_says_why():
    """It ends with 1 and a remedy for root, with 0 for others, and everything waits for it."""
    found = services()
    assert NOT_ROOT in found["keys"]["depends_on"]
    assert "keys" in found["scheduler"]["depends_on"]
    command = [word.replace("$$", "$") for word in found[NOT_ROOT]["command"]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if os.geteuid() != 0:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 1
    assert "CANVOD_USER is root" in done.stderr
    assert "make compose-user" in done.stderr
    subprocess.run(["setpriv", "--reuid", "1000", "--clear-groups", *command], check=True)


def test_keys_of_another_user_are_refused_by_a_service_whose_name_says_why(volumes):
    """It ends with 1 and a remedy where there are keys that it cannot read, else with 0."""
    found = services()
    assert OWNS_KEYS in found["keys"]["depends_on"]
    assert found[OWNS_KEYS]["volumes"] == found["keys"]["volumes"]
    *shell, script = found[OWNS_KEYS]["command"]
    command = [*shell, script.replace("$$", "$").replace("/keys/", f"{volumes}/")]
    subprocess.run(command, check=True)
    fill_volumes(volumes, "x")
    subprocess.run(command, check=True)
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    for folder in (volumes, *volumes.parents):
        if not folder.stat().st_mode & 0o1:
            folder.chmod(0o711)
    for role in ROLES:
        (volumes / role).chmod(0o1777)
    volumes.chmod(0o755)
    other = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    done = subprocess.run([*other, *command], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "made with another CANVOD_USER" in done.stderr
    assert "docker compose down --volumes" in done.stderr


class TestUser:
    """``make compose-user``."""

    def call(self, folder: Path, environ: dict[str, str], *before: str) -> subprocess.CompletedProcess[str]:
        """Run it in a folder as in a checkout."""
        (folder / "scripts").mkdir(exist_ok=True)
        for name in (".env", "scripts/compose-user"):
            shutil.copy(TOP / name, folder / name)
        kept = {"PATH": os.environ["PATH"]}
        return subprocess.run(
            [*before, str(folder / "scripts/compose-user")],
            check=False, capture_output=True, text=True, env=kept | environ,
        )  # fmt: skip

    @pytest.mark.parametrize("sudo", ["", "0:0", "1000:100", "0010:7", "me:us", "1000:"])
    def test_it_is_the_launchers_rule(self, tmp_path, sudo):
        """The user is the one that the launcher would choose, and owns the folders."""
        uid, _, gid = sudo.partition(":")
        environ = {"SUDO_UID": uid, "SUDO_GID": gid} if sudo else {}
        done = self.call(tmp_path, environ)
        host = make_host(uid=os.getuid(), gid=os.getgid())
        user = container_user(Settings(), host, environ)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / ".env").read_text().splitlines()
        assert [line for line in lines if line.startswith("CANVOD_USER")] == [f"CANVOD_USER={user}"]
        assert len(lines) == len((TOP / ".env").read_text().splitlines())
        for name in ("data", "stores"):
            state = (tmp_path / name).stat()
            assert f"{state.st_uid}:{state.st_gid}" == user

    def test_root_may_name_another_user(self, tmp_path):
        """But not root, and only as numbers."""
        for user in ("0:0", "0:1000", "root", "1000"):
            done = self.call(tmp_path, {"CANVOD_USER": user})
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: CANVOD_USER={user} is ")
            assert "to do:" in done.stderr
            assert not (tmp_path / "stores").exists()
        mine = f"{os.getuid() or 1234}:{os.getgid() or 1234}"
        assert self.call(tmp_path, {"CANVOD_USER": mine}).returncode == 0
        assert f"CANVOD_USER={mine}\n" in (tmp_path / ".env").read_text()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of another user")
    def test_folders_of_another_user_are_told(self, tmp_path):
        """An ordinary user reads what root has to do, and .env stays as it was."""
        (tmp_path / "stores").mkdir()
        tmp_path.chmod(0o777)
        parents = [parent for parent in tmp_path.parents if parent.stat().st_mode & 0o1 == 0]
        for parent in parents:
            parent.chmod(0o711)
        done = self.call(tmp_path, {}, "setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups")
        assert done.returncode == 1
        assert f"sudo chown 1234:1234 {tmp_path}/stores" in done.stderr
        assert (tmp_path / ".env").read_text() == (TOP / ".env").read_text()


def test_keys_and_ingest_are_contained_as_well():
    """Neither the init service nor the ingest has more rights than scheduler and workers."""
    found = services()
    written = compose_file(detached_plan())["services"]
    checks = (found[NOT_ROOT], found[OWNS_KEYS])
    for service in (*checks, found["keys"], found["ingest"], written["keys"], written["ingest"]):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges"]
        assert service["memswap_limit"] == service["mem_limit"]
        assert "ports" not in service
        assert "privileged" not in service
    for service in (*checks, found["keys"], written["keys"]):
        assert service["network_mode"] == "none"
    assert found["ingest"]["environment"] == written["ingest"]["environment"] == client_environment()
    assert found["ingest"]["profiles"] == written["ingest"]["profiles"] == ["ingest"]


def test_an_ingest_finds_its_keys_as_every_client_does(tmp_path, monkeypatch):
    """The environment of the ingest is that of a client on the host, with the container's folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = KeyFolder("x")
    folder.write(make_keys("x"))
    on_the_host = {
        name: value.replace(f"{folder.path}/client", "/keys") for name, value in folder.environment().items()
    }
    address = {"CANVOD_PROCESSING__SCHEDULER_ADDRESS": "tls://scheduler:8786"}
    assert client_environment() == address | on_the_host
    folder.remove()


def test_nothing_is_published_beyond_this_host():
    """Every port has 127.0.0.1 before it, in both files; an internal network has none."""
    internal = make_settings(launch={"network": "internal"})
    for found in (services(), compose_file(detached_plan())["services"]):
        ports = [port for service in found.values() for port in service.get("ports", ())]
        assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
        assert sorted(port["target"] for port in ports) == [8786, 8787]
        assert not [service for service in found.values() if service.get("network_mode") == "host"]
        assert "docker.sock" not in str(found)
    isolated = compose_file(detached_plan(settings=internal))
    assert isolated["networks"]["default"]["internal"] is True
    assert not [service for service in isolated["services"].values() if "ports" in service]


def test_each_role_has_a_volume_of_its_own_for_its_key():
    """Only the service that makes the keys sees more than one of them."""
    for found in (services(), compose_file(detached_plan())["services"]):
        for name, service in found.items():
            sources = [
                m["source"] for m in service.get("volumes", ()) if str(m["source"]).startswith("keys-")
            ]
            if name == NOT_ROOT:
                assert sources == []
                continue
            role = {"keys": None, OWNS_KEYS: None, "ingest": "client"}.get(name, name.partition("-")[0])
            assert sources == ([f"keys-{role}"] if role else [f"keys-{role}" for role in ROLES])


def back_to_body(service: dict[str, Any]) -> dict[str, Any]:
    """Read a written service as the engine's own fields, as Compose would send them."""
    words = {
        "CpusetCpus": "cpuset", "Memory": "mem_limit", "MemorySwap": "memswap_limit",
        "PidsLimit": "pids_limit",
        "OomScoreAdj": "oom_score_adj", "Init": "init", "ReadonlyRootfs": "read_only", "CapDrop": "cap_drop",
        "SecurityOpt": "security_opt", "CpuShares": "cpu_shares", "CgroupParent": "cgroup_parent",
        "GroupAdd": "group_add",
    }  # fmt: skip
    host = {field: service[word] for field, word in words.items() if word in service}
    host["Tmpfs"] = dict(line.split(":", 1) for line in service["tmpfs"])
    host["Mounts"] = [
        (mount["type"], mount["target"], bool(mount.get("read_only")))
        for mount in service["volumes"] if not mount["source"].startswith("keys-")
    ]  # fmt: skip
    host["LogConfig"] = {"Type": service["logging"]["driver"], "Config": service["logging"]["options"]}
    return {
        "Image": service["image"], "Cmd": service["command"], "User": service["user"],
        "Env": sorted(f"{name}={value}" for name, value in service.get("environment", {}).items()),
        "Labels": service["labels"], "HostConfig": host,
    }  # fmt: skip


@given(case=fitting_cases())
def test_a_written_plan_is_the_launchers_plan(case):
    """Every field that the launcher sends comes back from the file, but for those that differ on purpose."""
    settings, host = case
    mounts = [Mount(path="/data/in $HOME", read_only=True)]
    plan = detached_plan(settings=settings, host=host, mounts=mounts)
    written = yaml.safe_load(compose_text(plan).replace("$$", "$"))
    assert len(written["services"]) == len(plan.workers) + 3
    for container in (plan.scheduler, *plan.workers):
        body = create_request(container, plan)
        for field in ("NetworkMode", "AutoRemove", "RestartPolicy", "CpusetMems"):
            body["HostConfig"].pop(field)
        body["HostConfig"]["Tmpfs"].pop("/keys")
        body["HostConfig"]["Mounts"] = [
            (mount["Type"], mount["Target"], mount["ReadOnly"]) for mount in body["HostConfig"]["Mounts"]
        ]
        service = written["services"][container.dask_name]
        expected = {field: body[field] for field in ("Image", "Cmd", "User", "Env", "Labels", "HostConfig")}
        assert back_to_body(service) == expected
        assert service["container_name"] == container.name
        assert service["pull_policy"] == "never"
    assert written["networks"]["default"]["driver_opts"] == NETWORK_OPTIONS


def test_a_field_that_compose_is_not_told_of_is_no_secret(monkeypatch):
    """When the launcher learns to set something new, this fails instead of leaving it out."""

    def body(*arguments: Any, **options: Any) -> dict[str, Any]:
        made = create_request(*arguments, **options)
        made["HostConfig"]["Sysctls"] = {}
        return made

    monkeypatch.setattr("canvod.launch.detached.compose_file.create_request", body)
    with pytest.raises(NotImplementedError, match="Sysctls"):
        compose_file(detached_plan())


def test_dollars_stay_dollars():
    """Compose would take a dollar for a variable."""
    settings = make_settings(launch={"environment": {"PRICE": "5$ ${HOME}"}})
    service = compose_file(detached_plan(settings=settings))["services"]["worker-0"]
    assert service["environment"]["PRICE"] == "5$$ $${HOME}"


def test_what_compose_cannot_say_is_said():
    """NUMA nodes of the memory: in the file's heading."""
    assert "CpusetMems" in compose_text(detached_plan()).partition("\nname:")[0]


def test_only_a_detached_cluster_is_written():
    """A plan of processes, of another scheduler, or with a lease is refused."""
    remote = make_settings(processing={"scheduler_address": "tls://127.0.0.1:8786"})
    for plan in (
        detached_plan(backend="process"),
        detached_plan(detached=False),
        detached_plan(settings=remote),
    ):
        with pytest.raises(PlanError, match="a detached cluster of containers"):
            compose_text(plan)


def test_the_command_writes_the_file_and_nothing_else(tmp_path, monkeypatch, capsys):
    """Standard output is YAML, the rest is on stderr, and an ingest follows the same settings."""
    file = tmp_path / "lab.yaml"
    text = "processing: {resource_mode: manual, n_max_threads: 1, max_memory_gb: 1}\n"
    file.write_text(text)
    monkeypatch.setattr("canvod.launch.docker.engine.probe_engine", lambda: None)
    assert main(["compose", "--config", str(file), "--name", "lab"]) == 0
    output = capsys.readouterr()
    written = yaml.safe_load(output.out)
    assert written["name"] == "canvod-launch-lab"
    assert written["services"]["ingest"]["entrypoint"][-2:] == ["--config", str(file)]
    assert "lab.yaml" in output.err
    assert OWNER_LABEL not in output.out
    assert "let nobody else read it" not in output.err
    file.write_text(text + "launch: {environment: {TOKEN: secret}}\n")
    assert main(["compose", "--config", str(file)]) == 0
    assert "let nobody else read it" in capsys.readouterr().err
    file.write_text("processing: {scheduler_address: 'tls://127.0.0.1:8786'}\n")
    assert main(["compose", "--config", str(file)]) == 1
    assert "leave out processing.scheduler_address" in capsys.readouterr().err


def test_docker_compose_1_is_told_what_it_needs(tmp_path):
    """Both files stop the old docker-compose with one line that says what to use."""
    assert REFUSAL in services()[NOT_ROOT]["labels"].values()
    written = compose_file(detached_plan())["services"]["keys"]["labels"]
    assert REFUSAL in written.values()
    program = shutil.which("docker-compose")
    if (
        program is None
        or " 1."
        not in subprocess.run([program, "--version"], check=False, capture_output=True, text=True).stdout
    ):
        pytest.skip("there is no docker-compose 1 here")
    (tmp_path / "compose.pinned.yaml").write_text(compose_text(detached_plan()))
    environ = {name: value for name, value in os.environ.items() if name != "COMPOSE_PROJECT_NAME"}
    for file in (TOP / "compose.yaml", tmp_path / "compose.pinned.yaml"):
        done = subprocess.run(
            [program, "--file", str(file), "up"], check=False, capture_output=True, text=True, env=environ
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith(
            'This is docker-compose 1. canvod-launch needs Compose 2, which is called "docker compose". '
            "See https://docs.docker.com/compose/install\n"
        )


@pytest.fixture
def volumes(tmp_path):
    """A folder for each role, as volumes have them."""
    for role in ROLES:
        (tmp_path / role).mkdir()
    return tmp_path


def contents(top: Path) -> dict[str, str]:
    """All files below a folder."""
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_keys_are_made_once(volumes, capsys):
    """A second start leaves them as they are, so that a running cluster keeps its clients."""
    assert fill_volumes(volumes, "x") is True
    first = contents(volumes)
    assert len(first) == 9
    assert fill_volumes(volumes, "x") is False
    assert contents(volumes) == first
    for path in first:
        assert stat.S_IMODE((volumes / path).stat().st_mode) == 0o600
    assert len({text for path, text in first.items() if path.endswith("key.pem")}) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lost", ["scheduler/key.pem", "worker/ca.pem", "client/cert.pem"])
def test_incomplete_keys_are_replaced(volumes, lost):
    """One lost volume makes all keys useless: all are made anew."""
    fill_volumes(volumes, "x")
    first = contents(volumes)
    (volumes / lost).write_text("" if lost.startswith("client") else "another")
    if "ca" not in lost:
        (volumes / lost).unlink()
    assert fill_volumes(volumes, "x") is True
    assert not set(first.values()) & set(contents(volumes).values())


def test_keys_of_another_user_are_refused_with_the_way_out(volumes, monkeypatch, capsys):
    """Who changes CANVOD_USER reads why nothing starts."""
    fill_volumes(volumes, "x")

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(KeysError, match="another user's"):
        fill_volumes(volumes, "x")
    assert fill([str(volumes)]) == 1
    text = capsys.readouterr().err
    assert "CANVOD_USER" in text
    assert "docker compose down --volumes" in text


def test_missing_volumes_are_an_error(tmp_path):
    """A folder that is not there is named."""
    with pytest.raises(KeysError, match="scheduler"):
        fill_volumes(tmp_path, "x")


class TestPreparation:
    """``canvod-launch build --for-compose``."""

    @pytest.fixture
    def checkout(self, tmp_path, monkeypatch):
        """A checkout, a base image, and a network with certificates, credentials and a proxy."""
        for folder in ("docker/site", "docker/packages"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "compose.yaml").touch()
        network = BuildNetwork(
            ca_bundle=b"certificates",
            index_url="https://pypi.lab.example/simple",
            credentials="machine pypi.lab.example login me password secret",
            proxies={"HTTPS_PROXY": "http://me:secret@proxy.example:3128"},
        )
        monkeypatch.setattr(compose_build, "read_build_network", lambda _settings: network)
        base = BaseImage("canvod-launch-base:3.14-forky", "3.14")
        monkeypatch.setattr(compose_build, "choose_base", lambda *_arguments, **_options: base)
        return tmp_path

    def prepare(self, checkout: Path) -> list[Path]:
        """Run it."""
        client: Any = None
        settings = Settings.model_validate({"launch": {"packages": ["numba==0.63.1"]}})
        base, written = compose_build.prepare_compose(client, settings, checkout)
        assert base == "canvod-launch-base:3.14-forky"
        return written

    def test_compose_gets_a_base_and_what_the_network_needs(self, checkout):
        """Twice, with the same result; secrets are in files of their owner alone, not in the override."""
        self.prepare(checkout)
        for path in self.prepare(checkout):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert sorted(path.name for path in (checkout / "docker/site").iterdir()) == [
            "ca-bundle.pem",
            "index-url",
            "netrc",
        ]
        assert (checkout / "docker/packages/requirements.txt").read_text() == "numba==0.63.1\n"
        text = (checkout / "compose.override.yaml").read_text()
        assert "secret" not in text
        for role in ("scheduler", "worker"):
            arguments = yaml.safe_load(text)["services"][role]["build"]["args"]
            assert arguments == {
                "PYTHON_IMAGE": "canvod-launch-base:3.14-forky", "PYTHON": "3.14", "HTTPS_PROXY": None,
            }  # fmt: skip

    def test_somebody_elses_override_is_kept(self, checkout):
        """A file that it did not write is neither changed nor lost."""
        (checkout / "compose.override.yaml").write_text("services: {}\n")
        with pytest.raises(ImageError, match="not from this command"):
            self.prepare(checkout)
        assert (checkout / "compose.override.yaml").read_text() == "services: {}\n"
        assert list((checkout / "docker/site").iterdir()) == []

    def test_elsewhere_it_is_refused(self, tmp_path):
        """Without a checkout there is nothing to prepare."""
        with pytest.raises(ImageError, match=r"no compose\.yaml"):
            self.prepare(tmp_path)

    def test_git_ignores_all_of_it(self):
        """What belongs to a site is never committed."""
        if not (TOP / ".git").exists():
            pytest.skip("this is no git checkout")
        names = [
            "compose.override.yaml",
            "compose.pinned.yaml",
            "docker/site/netrc",
            "stores/x/y",
            "data/x.rnx",
        ]
        done = subprocess.run(
            ["git", "-C", str(TOP), "check-ignore", *names], check=False, capture_output=True, text=True
        )
        assert done.stdout.split() == names


def test_the_page_names_commands_that_exist():
    """Services, files and targets of docs/compose.md are there."""
    page = (TOP / "docs/compose.md").read_text()
    commands = [line[2:].partition(" #")[0].split() for line in page.splitlines() if line.startswith("$ ")]
    assert ["docker", "compose", "build"] in commands
    assert ["docker", "compose", "up", "--detach"] in commands
    assert ["make", "compose-base"] in commands
    assert "compose-base:" in (TOP / "Makefile").read_text()
    runs = [command for command in commands if "run" in command]
    assert runs
    for command in runs:
        assert shlex.join(command).startswith("docker compose ")
        assert "ingest" in command
    for name in re.findall(r"CANVOD_[A-Z_]+", page):
        assert name in defaults() or "__" in name, name
