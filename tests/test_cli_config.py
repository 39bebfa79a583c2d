"""The command line's frame, and the commands config and version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from canvod.launch.cli import main
from canvod.launch.cli.app import COMMANDS, GROUPS
from canvod.launch.config import field_names, json_schema
from canvod.launch.errors import (
    ClusterError,
    ConfigError,
    ContainerFailedError,
    ExitStatus,
    LaunchError,
    VersionMismatchError,
)

SHIPPED = Path(__file__).parents[1] / "config" / "processing.yaml"
HEAVY = ["dask", "distributed", "docker", "icechunk", "numpy", "structlog", "xarray", "zarr"]


@pytest.fixture(autouse=True)
def away(tmp_path, monkeypatch):
    """Run in an empty folder, with a terminal of 80 columns and without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("CANVOD_LAUNCH__BACKEND", "CANVOD_LAUNCH__LOG_LEVEL", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys):
    """Return a function that runs a command and returns exit status, standard output and stderr."""

    def run_command(*arguments):
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command


@pytest.fixture
def fail(run, monkeypatch):
    """Return a function that runs a command which ends with an error."""

    def run_failing(error, *arguments):
        def load_settings(*_, **__):
            raise error

        monkeypatch.setattr("canvod.launch.config.load_settings", load_settings)
        return run("config", "check", *arguments)

    return run_failing


def python(code, **options):
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, **options
    )


def test_help_answers_without_loading_what_commands_need():
    """--help of the whole and of each command imports nothing heavy, and shows examples and exit statuses."""
    code = (
        "import sys\n"
        "from canvod.launch.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        f"heavy = set({HEAVY}) & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python(code.replace("sys.argv[1:]", "['--help']"))
    assert done.returncode == 0, done.stderr
    for part in ("Examples", "Exit statuses", "3  committed, but something", "config", "version"):
        assert part in done.stdout
    done = python(code.replace("sys.argv[1:]", "['config', 'check', '--help']"))
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_help_fits_80_columns(run, command):
    """No line of a help is wider than the terminal, no markup is left in it, and a command has examples."""
    status, out, _ = run(*command.split(), "--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "[bold]" not in out
    assert f"canvod-launch {command}" in out.partition("\n Examples")[2] or command in GROUPS


def test_the_list_of_commands_has_two_lines_for_each_at_most(run):
    """What else there is to know is in the help of each command."""
    listed = run("--help")[1].partition("─ Commands")[2].partition("╰")[0].splitlines()[1:]
    assert len(listed) <= 2 * len({command.split()[0] for command in COMMANDS})
    assert all(any(f"│ {name} " in line for line in listed) for name in GROUPS)


def test_no_arguments_show_the_help(run):
    """Without a command the help is shown, and the status says that nothing was done."""
    status, out, err = run()
    assert status == ExitStatus.USAGE
    assert "Usage: canvod-launch" in out + err


def test_check_shows_each_value_with_its_place(run, monkeypatch):
    """Defaults, lines of the file and environment variables are told apart; the file is named on stderr."""
    Path("lab.yaml").write_text("launch:\n  tmp_mb: 9\nprocessing:\n  n_max_threads: 2\n")
    monkeypatch.setenv("CANVOD_LAUNCH__BACKEND", "process")
    status, out, err = run("config", "check", "lab.yaml")
    assert status == ExitStatus.OK
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["tmp_mb"] == ["9", "lab.yaml:2"]
    assert rows["backend"] == ["process", "CANVOD_LAUNCH__BACKEND"]
    assert rows["log_level"] == ["info", "default"]
    assert {name.rpartition(".")[2] for name in field_names()} <= set(rows)
    assert max(map(len, out.splitlines())) <= 80
    assert "Settings: lab.yaml" in err
    assert "warning: lab.yaml:4: processing.n_max_threads = 2 is ignored" in err


def test_check_takes_the_default_file_where_it_is_there(run):
    """./config/processing.yaml is taken where no file is named, else the defaults; both are said."""
    _, _, err = run("config", "check")
    assert "Settings: defaults and environment; no file" in err
    Path("config").mkdir()
    Path("config/processing.yaml").write_text(SHIPPED.read_text())
    _, out, err = run("config", "check")
    assert "Settings: config/processing.yaml" in err
    assert "config/processing.yaml:" in out


def test_check_as_json(run):
    """--json prints values, places and warnings, and nothing else on standard output."""
    Path("lab.yaml").write_text("launch:\n  environment: {TOKEN: hush}\n  tmp_mb: 9\n")
    status, out, _ = run("config", "check", "lab.yaml", "--json")
    found = json.loads(out)
    assert status == ExitStatus.OK
    assert found["file"] == "lab.yaml"
    assert found["settings"]["launch"]["tmp_mb"] == 9
    assert found["origins"]["launch.tmp_mb"] == {
        "from": "file",
        "place": "lab.yaml:3",
        "file": "lab.yaml",
        "line": 3,
    }
    assert found["warnings"] == []
    assert "hush" not in out


def test_refused_settings_are_one_block(run):
    """A refusal is shown on stderr, with status 1 and without traceback; long paths are not wrapped."""
    folder = Path("a" * 60)
    folder.mkdir()
    path = folder / "processing.yaml"
    path.write_text("launch:\n  bakend: docker\n  read_only: [data, '[bold]']\n")
    status, out, err = run("config", "check", str(path))
    assert status == ExitStatus.REFUSED
    assert out == ""
    assert err.startswith("error: These settings cannot be used (3 problems).\n")
    assert f"\n{path}:2: launch.bakend = docker is not a field of launch\n" in err
    assert "launch.read_only[1] = [bold] is not an absolute path" in err
    assert "Traceback" not in err


def test_refused_settings_as_json(run):
    """With --json an error is one object on standard output, each problem on its own in it."""
    status, out, err = run("config", "check", "nothing.yaml", "--json")
    found = json.loads(out)
    assert (status, err) == (ExitStatus.REFUSED, "")
    assert set(found) == {"error", "kind", "hint", "exit_status", "problems"}
    assert (found["kind"], found["exit_status"]) == ("config", 1)
    assert "no such file" in found["error"]
    assert found["problems"][0]["file"] == "nothing.yaml"


def test_schema_is_printed(run):
    """The schema goes to standard output as it is."""
    status, out, err = run("config", "schema")
    assert (status, err) == (ExitStatus.OK, "")
    assert json.loads(out) == json_schema()


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ConfigError("m", hint="h"), 1, "config"),
        (VersionMismatchError("m", hint="h"), 1, "version_mismatch"),
        (ClusterError("m", hint="h"), 4, "cluster"),
        (ContainerFailedError("m", hint="h"), 4, "container_failed"),
        (type("Derived", (ContainerFailedError,), {})("m", hint="h"), 4, "container_failed"),
        (LaunchError("m", hint="h"), 1, "launch"),
    ],
)
def test_errors_end_in_their_status(fail, error, status, kind):
    """Each error of ours has its status, its stable kind, its hint, and its notes."""
    assert fail(error)[::2] == (status, "error: m\n  to do: h\n")
    _, out, _ = fail(error, "--json")
    assert json.loads(out) == {"error": "m", "kind": kind, "hint": "h", "exit_status": status}
    error.add_note("last log lines")
    assert fail(error)[2].endswith("last log lines\n")


def test_traceback_only_with_debug(fail):
    """A bug is told in one block; --debug, before or behind the command, adds the traceback."""
    status, _, err = fail(ZeroDivisionError("no"))
    assert status == ExitStatus.INTERNAL_ERROR
    assert err.startswith("error: ZeroDivisionError: no\n")
    assert "--debug" in err
    assert "Traceback" not in err
    _, _, err = fail(ConfigError("m"), "--debug")
    assert "Traceback" in err
    assert err.endswith("error: m\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), (130, "error: interrupted\n")),
        (SystemExit(143), (143, "error: ended by SIGTERM\n")),
        (SystemExit(7), (7, "")),
        (SystemExit(None), (0, "")),
    ],
)
def test_interrupts_and_signals_keep_their_status(fail, error, expected):
    """Ctrl-C is 130 with a word, and so are the others; what else a command exits with is passed on."""
    assert fail(error)[::2] == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ConfigError("m")])
def test_what_could_not_be_removed_is_told_however_a_command_ends(fail, error):
    """A note of the start is shown to people and to programs."""
    error.add_note("Cluster lab is not gone entirely")
    assert fail(error)[2].endswith("\nCluster lab is not gone entirely\n")
    assert json.loads(fail(error, "--json")[1])["notes"] == ["Cluster lab is not gone entirely"]


@pytest.mark.parametrize("arguments", [("--nothing",), ("nothing",), ("config", "check", "a", "b")])
def test_wrong_command_line(run, arguments):
    """A wrong command line is status 2, with the command whose help to read; also as JSON."""
    status, _, err = run(*arguments)
    assert status == ExitStatus.USAGE
    assert err.startswith("error: ")
    assert "--help\n" in err
    _, out, _ = run(*arguments, "--json")
    assert json.loads(out)["kind"] == "usage"


@pytest.mark.parametrize("shape", ["console", "json"])
def test_lines_on_a_pipe_are_text_or_json_but_not_both(shape):
    """Steps, warnings and the error of a command, and lines of the log."""
    Path("lab.yaml").write_text(
        f"launch: {{log_format: {shape}}}\n"
        "processing: {n_max_threads: 2, scheduler_address: 'tls://127.0.0.1:8786'}\n"
    )
    code = (
        "from canvod.launch.cli import main\n"
        "from canvod.launch.logs import get_logger\n"
        "status = main(['compose', '--config', 'lab.yaml'])\n"
        "get_logger('canvod.launch').warning('from_the_log')\n"
        "raise SystemExit(status)\n"
    )
    done = python(code, env=os.environ | {"DOCKER_HOST": "unix:///nowhere"})
    assert (done.returncode, done.stdout) == (ExitStatus.REFUSED, "")
    lines = done.stderr.splitlines()
    if shape == "console":
        assert not [line for line in lines if line.startswith("{")]
        for text in ("Settings: lab.yaml", "warning: lab.yaml:2", "error: Only a plan", "from_the_log"):
            assert text in done.stderr
        return
    found = [json.loads(line) for line in lines]
    assert [line["level"] for line in found] == ["info", "warning", "error", "warning"]
    assert found[0]["event"] == "settings: lab.yaml"
    assert (found[2]["kind"], found[2]["exit_status"]) == ("plan", ExitStatus.REFUSED)
    assert found[2]["hint"] == "leave out processing.scheduler_address"


def test_version(run):
    """Text and JSON name the same packages, and the option is short."""
    status, out, _ = run("version")
    assert status == ExitStatus.OK
    names = [line.split()[0] for line in out.splitlines()]
    _, as_json, _ = run("version", "--json")
    assert list(json.loads(as_json)) == names
    assert names[:2] == ["canvod-launch", "python"]
    assert {"dask", "distributed", "icechunk", "zarr", "xarray", "docker", "engine"} <= set(names)
    assert run("--version")[1].startswith("canvod-launch ")


def test_version_without_dask_and_docker():
    """Packages that are not there are said to be not installed, and nothing fails."""
    code = (
        "import sys, importlib.metadata as metadata\n"
        "absent = {'dask', 'distributed', 'docker', 'icechunk'}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in absent:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "real = metadata.version\n"
        "def version(name):\n"
        "    if name in absent:\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n"
        "from canvod.launch.cli import main\n"
        "sys.exit(main(['version']))\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["dask"] == rows["docker"] == "not installed"


def test_nobody_reads_the_output():
    """A reader that goes away ends the command in silence, with the status a shell gives for it."""
    code = "import sys\nfrom canvod.launch.cli import main\nsys.exit(main(['config', 'schema']))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 141
