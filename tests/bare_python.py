"""A Python without Dask, as a fixture."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """Python of a virtual environment that has everything but Dask: the packages of this one are linked."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = Path(
        subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    )
    for origin in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(origin).iterdir():
            name = entry.name.lower()
            if (
                name.startswith(("dask", "distributed"))
                or entry.suffix == ".pth"
                or (target / entry.name).exists()
            ):
                continue
            (target / entry.name).symlink_to(entry)
    # canvod is a namespace: what is installed of it here (readers) and the source lie side by side.
    installed = target / "canvod"
    if installed.is_symlink():
        installed.unlink()
        shutil.copytree(Path(sysconfig.get_path("purelib")) / "canvod", installed, symlinks=True)
        shutil.rmtree(installed / "launch", ignore_errors=True)
    (target / "source.pth").write_text(f"{SOURCE}\n")
    return python
