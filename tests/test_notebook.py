"""The notebook of ``examples/`` in a real kernel, as somebody runs it who has just cloned the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leftovers import volumes

if TYPE_CHECKING:
    import docker

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "analysis.ipynb"

RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read("analysis.ipynb", as_version=4)
try:
    NotebookClient(notebook, timeout=280).execute()
finally:
    nbformat.write(notebook, "executed.ipynb")
"""


def cells(path: Path) -> dict[str, dict[str, Any]]:
    """The cells of a notebook by their names."""
    return {cell["id"]: cell for cell in json.loads(path.read_text())["cells"]}


def execute(folder: Path, **environ: str) -> dict[str, str]:
    """Run the notebook in a folder; what each cell printed, and "picture" where it drew one."""
    (folder / "analysis.ipynb").write_text(NOTEBOOK.read_text())
    subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env=os.environ | {"CANVOD_LAUNCH__DASHBOARD_PORT": "0"} | environ,
        check=True,
    )
    said = {}
    for name, cell in cells(folder / "executed.ipynb").items():
        outputs = cell.get("outputs", [])
        said[name] = "".join("".join(out["text"]) for out in outputs if out.get("name") == "stdout")
        said[name] += "picture" * any("image/png" in out.get("data", {}) for out in outputs)
    return said


def assert_holds(said: dict[str, str]) -> None:
    """Assert what the notebook tells its readers."""
    assert said["function"] == "[0.1, 0.31622776601683794, 1.0]\n"
    assert said["array"] == "8 chunks, standard deviation 0.999\n"
    for line in said["ingest"].splitlines():
        assert re.fullmatch(r"sim/\w+: 8 files stored, 0 known, 480 epochs, \d+ signals", line)
    loaded = re.search(r"SNR (\d\d\.\d) dB-Hz: (\d+) of (\d+) chunks were loaded", said["chunks"])
    assert loaded is not None
    assert 20 < float(loaded[1]) < 60
    assert int(loaded[2]) == 1 < int(loaded[3])
    assert said["plot"] == "picture"
    assert said["close"] == ""


def test_the_notebook_is_kept_without_outputs() -> None:
    """Nothing of a run is in the repository."""
    for cell in cells(NOTEBOOK).values():
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}


@pytest.mark.slow
def test_the_notebook_runs_in_processes(tmp_path: Path) -> None:
    """Start, own function, array, ingest, lazy reading, plot, close."""
    assert_holds(execute(tmp_path, CANVOD_LAUNCH__BACKEND="process"))


@pytest.mark.slow
@pytest.mark.docker
def test_the_notebook_runs_in_containers(
    own_images: object, engine: docker.DockerClient, tmp_path: Path
) -> None:
    """The same, in containers, of which none is left."""
    del own_images
    before = {container["Id"] for container in engine.api.containers(all=True)} | volumes(engine)
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    said = execute(tmp_path, CANVOD_LAUNCH__BACKEND="docker")
    assert (
        f"in containers, which see {tmp_path} (read only), {tmp_path}/simulated (writable)" in said["start"]
    )
    assert_holds(said)
    after = {container["Id"] for container in engine.api.containers(all=True)} | volumes(engine)
    assert after <= before
