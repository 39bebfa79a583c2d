"""Without dask and distributed the package imports, and the ingest gives the same result on a pool."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from canvod.launch.ingest.read import open_group
from ingest_files import assert_holds, run_inline, write_windows

GROUP = "site/receiver"

SCRIPT = """
import json, sys
from importlib.util import find_spec

def main():
    assert find_spec("dask") is None and find_spec("distributed") is None
    import canvod.launch
    from canvod.launch.ingest.pool import PoolRunner
    from canvod.launch.ingest.run import ingest
    from canvod.launch.ingest.read import open_group

    from canvod.launch.config import load_settings

    store, *files = sys.argv[1:]
    with PoolRunner(2) as runner:
        report = ingest(files, store, "site/receiver", runner=runner, settings=load_settings({}).ingest)
    dataset = open_group(store, "site/receiver")
    values = report.as_json()
    values["mean"] = float(dataset.SNR.sel(epoch="2025-01-01").mean())
    print(json.dumps(values))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_the_ingest_works_without_dask(tmp_path, bare_python):
    """An environment without Dask stores the same values, and says that limits need Dask."""
    files = write_windows(tmp_path / "in", range(0, 50, 10))
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python, str(tmp_path / "script.py"), str(tmp_path / "store"), *map(str, files)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {"stored": 5, "known": 0, "partly": 0, "failed": 0}
    assert "limits" in report["notices"][0]
    assert "need Dask" in report["notices"][0]
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), files)
    run_inline(files, tmp_path / "other")
    here = open_group(tmp_path / "other", GROUP).compute(scheduler="sync")
    assert here.identical(
        open_group(tmp_path / "store", GROUP).compute(scheduler="sync").assign_attrs(here.attrs)
    )


@pytest.mark.slow
def test_commands_that_need_no_cluster_work_without_dask(tmp_path, bare_python):
    """``store show`` and ``--help`` work without Dask."""
    run_inline(write_windows(tmp_path / "in", [0]), tmp_path / "store")
    code = "import sys; from canvod.launch.cli import main; sys.exit(main(sys.argv[1:]))"
    for arguments in (["--help"], ["store", "show", str(tmp_path / "store")]):
        done = subprocess.run(
            [bare_python, "-c", code, *arguments], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
