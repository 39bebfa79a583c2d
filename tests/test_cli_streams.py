"""Commands whose standard streams are ASCII, closed, full or unread, or whose current folder is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from canvod.launch import open_group
from canvod.launch.cli.streams import prepared
from canvod.launch.errors import ExitStatus
from ingest_files import assert_holds, write_window

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "import sys; from canvod.launch.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-c", PROGRAM]
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere"}


def shell(line: str, *, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a shell, which closes and redirects; ``$C`` is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=os.environ | NO_ENGINE | {"C": sys.executable, "P": PROGRAM} | variables,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


RUN = '"$C" -P -c "$P"'


def test_characters_that_an_encoding_does_not_have_degrade(tmp_path: Path) -> None:
    """A name with an accent loses it, lines become ASCII."""
    (tmp_path / "mé×.yaml").write_text("launch: {backend: process}\n")  # noqa: RUF001
    done = shell(f"{RUN} plan --config mé×.yaml", cwd=tmp_path, PYTHONIOENCODING="ascii")  # noqa: RUF001
    assert done.returncode == 0, done.stderr
    assert "mex.yaml" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("redirection", "status"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        ("2>/dev/full", 0),
        ("| head -1", 141),
        (">/dev/full", 1),
        (">/dev/full 2>/dev/full", 1),
    ],
)
def test_a_command_ends_as_it_should_wherever_its_output_goes(redirection: str, status: int) -> None:
    """What is closed is as good as thrown away; a full disk is one message."""
    done = shell(f"{RUN} plan --json {redirection}")
    # The pipe's reader may have been slow enough to get it all.
    assert done.returncode in ({status, 0} if "head" in redirection else {status})
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if redirection == ">/dev/full":
        assert "error: Could not write to standard output: No space left on device." in done.stderr


def test_a_name_that_is_no_text_is_told_as_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Its bytes come out as they went in."""
    with prepared():
        sys.stdout.write(os.fsdecode(b"caf\xe9.yaml"))
    assert capfdbinary.readouterr().out.endswith(b"caf\xe9.yaml")


def test_streams_of_a_program_are_its_own_again() -> None:
    """Also where the command is called as a function."""
    before = sys.stdout, sys.stderr
    with prepared():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.slow
def test_a_run_that_is_committed_is_not_undone_by_its_report(tmp_path: Path) -> None:
    """A full disk below the report is a warning, and the status is the run's; the folder may go, too."""
    gone = tmp_path / "gone"
    gone.mkdir()
    write_window(tmp_path / "data" / "0.rnx", 0)
    options = f"--store {tmp_path}/store --group site/receiver --backend process --workers 1"
    done = shell(f"rmdir {gone}; {RUN} ingest {tmp_path}/data {options} >/dev/full", cwd=gone)
    assert done.returncode == 0, done.stderr
    assert "warning: Could not write to standard output: No space left on device." in done.stderr
    assert "Traceback" not in done.stderr
    assert_holds(open_group(tmp_path / "store", "site/receiver"), [tmp_path / "data" / "0.rnx"])


def test_a_current_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    """Where a name needs it; what does not need it works."""
    gone = tmp_path / "gone"
    gone.mkdir()
    options = "--store store --group site/receiver --backend process --json"
    done = shell(f"rmdir {gone}; {RUN} ingest data {options}", cwd=gone)
    assert done.returncode == ExitStatus.REFUSED, done.stderr
    assert json.loads(done.stdout)["kind"] == "input"
    gone.mkdir()
    done = shell(f"rmdir {gone}; {RUN} plan --json", cwd=gone)
    assert done.returncode == 0, done.stderr
