"""What the README and docs/ print is what happens: their commands, the output, and their Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from canvod.launch.config import load_settings
from canvod.launch.simulate import simulate
from leftovers import RUN
from readme import DOCUMENTS, README, TOP, Example, example, examples, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NAME = f"readme-{RUN}"
TIMEOUT_S = 240

RUN_HERE = {
    "make demo",
    "canvod-launch ingest demo/data/02_canopy",
    "pip install",
    "canvod-launch plan",
    "canvod-launch up --name lab",
    "sudo cp contrib/systemd",
    "canvod-launch run --workers 4",
    "make compose-base",
    "canvod-launch store log",
    "canvod-launch store rechunk",
}
RUN_WITH_COMPOSE = {
    "docker compose build",
    "docker compose run --rm ingest",
    "docker compose cp keys:/keys/client",
    "canvod-launch compose --config",
}
"""By test_compose_docker, in a cluster that all of its tests use."""

RUN_CELLS = """
import json
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

notebook = new_notebook(cells=[new_code_cell(block) for block in json.load(open("cells.json"))])
NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
print(*(output["text"] for cell in notebook.cells for output in cell.outputs if "text" in output))
"""

BACKENDS = [
    pytest.param("process", marks=pytest.mark.slow),
    # The first test of containers may have to build the images.
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.timeout(3600)]),
]


@dataclass
class Shell:
    """A terminal in a folder of its own, in which the environment of the tests is active."""

    folder: Path
    environ: Mapping[str, str]
    paths: dict[str, str] = field(default_factory=dict)
    """Paths and names of the documents, and what is used for them here."""

    def translate(self, text: str) -> str:
        """Put this folder's paths in place of those that are printed."""
        for printed, here in self.paths.items():
            text = re.sub(rf"(?<![\w/.-]){re.escape(printed)}(?![\w.-])", here, text)
        return text

    def run(self, commands: Sequence[str]) -> list[tuple[int, str]]:
        """Run commands one after the other in one shell; exit status and output of each."""
        script = "".join(f"{self.translate(command)}\nprintf '\\036%s\\037' $?\n" for command in commands)
        done = subprocess.run(
            ["bash", "-c", script],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environ,
            timeout=TIMEOUT_S,
        )
        parts = [part.rpartition("\036") for part in done.stdout.split("\037")[:-1]]
        assert len(parts) == len(commands), done.stdout
        return [(int(status), output) for output, _, status in parts]

    def follow(self, block: Example, *, refused: Sequence[str] = ()) -> str:
        """Run a block; all commands but the refused ones succeed, and print what is printed below them."""
        results = self.run(block.commands)
        for (command, printed), (status, output) in zip(block.steps, results, strict=True):
            told = f"{block.document} line {block.line}: $ {command}\n{output}"
            assert status == (1 if command.startswith(tuple(refused)) else 0), told
            assert matches(self.translate(printed), output), f"{told}\nis not\n{printed}"
        return "".join(output for _, output in results)


@pytest.fixture
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    """A terminal; without an engine for the backend ``process``."""
    # Paths as short as those that are printed: tables fold longer ones.
    folder = Path(tempfile.mkdtemp(prefix="readme-"))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CANVOD_", "DASK_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if getattr(request, "param", "process") == "docker":
        request.getfixturevalue("images")
    else:
        environ["DOCKER_HOST"] = f"unix://{folder}/no-engine.sock"
    (folder / "config").mkdir()
    shutil.copy(TOP / "config/processing.yaml", folder / "config")
    data = folder / "data"
    yield Shell(
        folder,
        environ,
        {"/data": str(data), "/data/stores": str(data / "stores"), "lab": NAME, "ada": getuser()},
    )
    shutil.rmtree(folder)


def backend(shell: Shell) -> str:
    """What the shell's clusters are made of."""
    return "process" if shell.environ.get("DOCKER_HOST", "").endswith("no-engine.sock") else "docker"


def test_every_example_is_run() -> None:
    """Each block of commands is run, by this module or by that of Compose."""
    claimed = [example(start) for start in RUN_HERE | RUN_WITH_COMPOSE]
    assert {(block.document, block.line) for block in claimed} == {
        (block.document, block.line) for block in examples("console")
    }
    assert len(claimed) == len(examples("console"))
    assert {block.language for block in examples()} <= {"console", "python", "yaml", "toml"}


@pytest.mark.parametrize("shell", BACKENDS, indirect=True)
def test_the_demo_does_what_is_printed(shell: Shell) -> None:
    """``make demo`` stores files and shows them; without an engine its last lines say what to do."""
    demo = shell.folder / "demo"
    done = subprocess.run(
        # What makes the environment is left out: the tests have theirs.
        ["make", "--old-file=venv", "demo", f"VENV={sys.prefix}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**shell.environ, "DEMO": str(demo), "HOURS": "1"},
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    out, err = (text.replace(str(demo), "demo") for text in (done.stdout, done.stderr))
    block = example("canvod-launch ingest demo/data/02_canopy")
    for command, printed in block.steps:
        assert f"\n$ canvod-launch {command.removeprefix('canvod-launch ')}\n" in err
        assert matches(printed.replace("…/demo/", "demo/"), out), f"{out}\nis not\n{printed}"
    last = err.split("$ canvod-launch store plot")[1]
    if backend(shell) == "process":
        assert "This ran in processes, not in containers. Could not reach the Docker engine" in last
        assert "To do: " in last
        assert last.endswith("Once that is done: make demo\n")
    else:
        assert "==>" not in last


def anchors(document: Path) -> set[str]:
    """Anchors of the headings of a document, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, TOP / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Files and headings that a document links to are there; the README links to every page."""
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    assert document.parent == TOP or f"(docs/{document.name})" in README.read_text()


def test_make_has_the_two_commands() -> None:
    """``make demo`` and ``make test`` are targets, and ``make test`` runs pytest with all tests."""
    script = (TOP / "scripts/test").read_text()
    marks = {quoted or bare for quoted, bare in re.findall(r'pytest" -m (?:"([^"]+)"|(\w+))', script)}
    assert marks == {"docker", "not docker"}
    for command in example("make demo").commands:
        name, target = command.split("#")[0].split()
        done = subprocess.run(
            [name, "--dry-run", target], check=True, capture_output=True, text=True, cwd=TOP, timeout=60
        )
        assert re.search(rf"^scripts/{target}\b", done.stdout, re.MULTILINE)


def test_extras_exist() -> None:
    """The README lists the extras that can be installed."""
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    section = README.read_text().split("\n## Installation\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == set(extras)


@pytest.mark.parametrize("shell", BACKENDS, indirect=True)
def test_the_commands_of_the_main_job(shell: Shell) -> None:
    """Plan, build, ingest, show, simulate; without an engine everything but the build works."""
    simulate(shell.folder / "data/rosalia", hours=1, receivers=1)
    block = example("canvod-launch plan")
    output = shell.follow(block, refused=["canvod-launch build"] if backend(shell) == "process" else [])
    assert "4 stored, 0 known, 0 partly, 0 failed" in output
    assert "4" in shell.follow(example("canvod-launch store log"))
    assert "2880" in shell.follow(example("canvod-launch store rechunk")).replace(",", "")
    assert ("worker processes" if backend(shell) == "process" else "containers on Docker") in output


@pytest.mark.parametrize("shell", BACKENDS, indirect=True)
def test_the_python_example_is_a_script(shell: Shell) -> None:
    """It runs as it is printed, as a file."""
    for number, block in enumerate(examples("python")):
        (shell.folder / f"example{number}.py").write_text(shell.translate(block.text))
        ((status, output),) = shell.run([f"python example{number}.py"])
        assert status == 0, output
        assert "Traceback" not in output
        if "dashboard_link" in block.text:
            assert "http://127.0.0.1:" in output


@pytest.mark.parametrize("shell", BACKENDS, indirect=True)
def test_the_python_example_is_a_cell(shell: Shell) -> None:
    """It runs as it is printed, in a notebook."""
    blocks = [shell.translate(block.text) for block in examples("python")]
    (shell.folder / "cells.json").write_text(json.dumps(blocks))
    (shell.folder / "run_cells.py").write_text(RUN_CELLS)
    ((status, output),) = shell.run(["python run_cells.py"])
    assert status == 0, output
    assert "http://127.0.0.1:" in output


@pytest.mark.parametrize("shell", BACKENDS[1:], indirect=True)
def test_a_detached_cluster_is_used_as_printed(shell: Shell) -> None:
    """It starts with the output that is printed, and what the table below says of it holds."""
    (folder,) = {file.parent for file in simulate(shell.folder / "data", hours=1, receivers=1).files}
    (shell.folder / "data/stores").mkdir()
    try:
        shell.follow(example("canvod-launch up --name lab"))
        commands = [
            "canvod-launch plan --detached --name lab --workers 2",
            "canvod-launch status --name lab",
            "canvod-launch connect lab > connect.py && python connect.py",
            "canvod-launch logs --name lab",
            "canvod-launch scale 1 --name lab",
            f"canvod-launch ingest {folder} --store /data/stores/here --group a/b --cluster lab",
            "canvod-launch down lab",
            "canvod-launch prune",
        ]
        for command, (status, output) in zip(commands, shell.run(commands), strict=True):
            assert status == 0, f"$ {command}\n{output}"
    finally:
        shell.run(["canvod-launch down lab"])


def test_the_unit_is_where_the_page_says() -> None:
    """Without systemd the unit cannot be started here; its file and the names in the commands are checked."""
    block = example("sudo cp contrib/systemd")
    source = block.commands[0].split()[2]
    unit = (TOP / source).read_text()
    assert Path(source).name == "canvod-launch@.service"
    assert "canvod-launch@lab" in block.commands[1]
    assert "/etc/canvod-launch/%i.yaml" in unit
    assert "/opt/canvod-launch/bin:" in unit


@pytest.mark.parametrize("shell", BACKENDS, indirect=True)
def test_a_command_has_a_cluster(shell: Shell) -> None:
    """``run`` as it is printed: a bare client connects, and functions of the program's own run."""
    (shell.folder / "data/stores").mkdir(parents=True)
    (shell.folder / "analysis.py").write_text(
        "from distributed import Client\n\n\ndef double(number):\n    return 2 * number\n\n\n"
        "with Client() as client:\n    print('sum', sum(client.gather(client.map(double, range(5)))))\n"
    )
    assert "\nsum 20\n" in shell.follow(example("canvod-launch run --workers 4"))


def test_what_compose_needs_is_prepared_by_make() -> None:
    """``make compose-base`` is what the tests of Compose begin with."""
    (command,) = example("make compose-base").commands
    done = subprocess.run(
        [*command.split(), "--dry-run"], check=True, capture_output=True, text=True, cwd=TOP, timeout=60
    )
    assert "canvod-launch build --for-compose" in done.stdout


def test_the_settings_are_valid(tmp_path: Path) -> None:
    """Blocks of settings are read without a complaint, and those of a pyproject.toml can be."""
    for block in examples("toml"):
        assert tomllib.loads(block.text)
    for number, block in enumerate(examples("yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block.text)
        settings = load_settings(path)
        for section, values in yaml.safe_load(block.text).items():
            found = getattr(settings, section).model_dump(mode="json")
            assert {name: found[name] for name in values} == values
