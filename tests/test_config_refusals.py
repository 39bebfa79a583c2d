"""Settings that are refused: every refusal names place, field, value, what is allowed and what to do."""

from __future__ import annotations

import os
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.config import SettingsError, load_settings
from canvod.launch.errors import ConfigError, ExitStatus


def refused(source, environ=None):
    """Load what must be refused, and return the error."""
    with pytest.raises(ConfigError) as caught:
        load_settings(source, environ=environ or {})
    return caught.value


@pytest.fixture
def refuse(tmp_path):
    """Return a function that writes a settings file, loads it and returns message and path."""

    def refuse_text(text, environ=None):
        path = tmp_path / "processing.yaml"
        path.write_text(text)
        return str(refused(path, environ)), str(path)

    return refuse_text


REFUSED = {
    "missing n_max_threads": (
        "processing:\n  resource_mode: manual\n",
        [":2: processing.n_max_threads is missing, and resource_mode is manual", "n_max_threads: 4"],
    ),
    "negative core": (
        "processing:\n  cpu_affinity: [0, -1]\n",
        [":2: processing.cpu_affinity[1] = -1 is below 0", "allowed: a list of different core IDs", "lscpu"],
    ),
    "repeated core": (
        "processing:\n  cpu_affinity: [0, 1, 1]\n",
        [":2: processing.cpu_affinity = [0, 1, 1] names core 1 more than once", "each once"],
    ),
    "no core": ("processing:\n  cpu_affinity: []\n", [":2: processing.cpu_affinity = [] is an empty list"]),
    "range of cores": ("processing:\n  cpu_affinity: 0-3\n", ["processing.cpu_affinity = 0-3 is not a list"]),
    "nice too low": (
        "processing:\n  nice_priority: -5\n",
        [":2: processing.nice_priority = -5 is below 0", "0 (normal) to 19 (lowest priority)", "write 0"],
    ),
    "nice too high": ("processing:\n  nice_priority: 20\n", ["processing.nice_priority = 20 is above 19"]),
    "no memory": (
        "processing:\n  max_memory_gb: 0\n",
        ["processing.max_memory_gb = 0 is not above 0", "GiB"],
    ),
    "negative memory": (
        "processing:\n  max_memory_gb: -1.5\n",
        ["processing.max_memory_gb = -1.5 is not above 0"],
    ),
    "memory with a unit": (
        "processing:\n  max_memory_gb: 16GB\n",
        ["processing.max_memory_gb = 16GB is not a number", "write it without a unit: 16"],
    ),
    "infinite memory": (
        "processing:\n  max_memory_gb: .inf\n",
        ["max_memory_gb = .inf is not a number"],
    ),
    "number in words": (
        'processing:\n  resource_mode: manual\n  n_max_threads: "four"\n',
        [":3: processing.n_max_threads = four is not a whole number"],
    ),
    "truth value as a number": (
        "processing:\n  n_max_threads: yes\n",
        ["processing.n_max_threads = yes is not a whole number"],
    ),
    "fraction of a thread": (
        "processing:\n  threads_per_worker: 1.5\n",
        ["processing.threads_per_worker = 1.5 is not a whole number"],
    ),
    "octal number": ("launch:\n  dashboard_port: 010\n", [":2: launch.dashboard_port = 010", "base 8"]),
    "hexadecimal number": (
        "launch:\n  tmp_mb: 0x10\n",
        [":2: launch.tmp_mb = 0x10 is not a whole number"],
    ),
    "number in base 60": (
        "launch:\n  start_timeout_s: 1:30\n",
        ["launch.start_timeout_s = 1:30", "base 60"],
    ),
    "unknown mode": (
        "processing:\n  resource_mode: Manual\n",
        ["processing.resource_mode = Manual is none of the allowed words", "did you mean manual?"],
    ),
    "address without a port": (
        "processing:\n  scheduler_address: tcp://host\n",
        ["processing.scheduler_address = tcp://host", "tls://127.0.0.1:8786"],
    ),
    "unknown key": (
        "launch:\n  bakend: docker\n",
        [":2: launch.bakend = docker is not a field of launch", "did you mean backend?"],
    ),
    "unknown key below": (
        "launch:\n  build:\n    index: x\n",
        [":3: launch.build.index = x is not a field of launch.build", "did you mean index_url?"],
    ),
    "key of another section": (
        "launch:\n  nice_priority: 4\n",
        [":2: launch.nice_priority = 4 is not a field of launch", "move it to the section processing:"],
    ),
    "unknown key of ingest": ("ingest:\n  redaer: auto\n", ["ingest.redaer = auto", "did you mean reader?"]),
    "former reader": (
        "ingest:\n  reader: auto\n",
        [":2: ingest.reader = auto is no reader any more", "write rinex, which reads RINEX 2, 3 and 4"],
    ),
    "other former reader": (
        "ingest:\n  reader: georinex\n",
        ["ingest.reader = georinex is no reader any more"],
    ),
    "no name of a reader": ("ingest:\n  reader: a/b\n", ["ingest.reader = a/b does not have the form"]),
    "neither true nor false": (
        "ingest:\n  mixed_stations: maybe\n",
        ["ingest.mixed_stations = maybe is neither true nor false", "allowed: true or false"],
    ),
    "unknown variable": ("ingest:\n  variables: [snr]\n", ["ingest.variables[0] = snr", "did you mean SNR?"]),
    "repeated variable": ("ingest:\n  variables: [SNR, SNR]\n", ["names variable SNR more than once"]),
    "compression": ("ingest:\n  compression_level: 23\n", ["ingest.compression_level = 23 is above 22"]),
    "value left out": ("launch:\n  tmp_mb:\n", [":2: launch.tmp_mb = null", "leave the line out"]),
    "old Python": ("launch:\n  python: 3.10\n", ["launch.python = 3.10", '"3.14"', "3.12 or newer"]),
    "no requirement": (
        "launch:\n  packages: [numba=0.63]\n",
        ["launch.packages[0] = numba=0.63 is not a requirement", "numba==0.63.1"],
    ),
    "option of pip": (
        'launch:\n  packages: ["-r lab.txt"]\n',
        ["launch.packages[0] = -r lab.txt is not", "absolute paths of requirements files"],
    ),
    "password in a requirement": (
        'launch:\n  packages: ["lab @ https://me:secret@pypi.lab.example/lab.whl"]\n',
        ["launch.packages[0] = lab @ https://***@pypi.lab.example/lab.whl has a password in an address"],
    ),
    "relative requirements": (
        "launch:\n  packages: [lab/requirements.txt]\n",
        ["launch.packages[0] = lab/requirements.txt is not an absolute path"],
    ),
    "root": ('launch:\n  user: "0:0"\n', ["launch.user = 0:0 is root; containers never run as root"]),
    "user by name": ("launch:\n  user: alice\n", ["launch.user = alice", "uid:gid in numbers"]),
    "relative path": (
        "launch:\n  read_only: [data]\n",
        ["launch.read_only[0] = data is not an absolute path"],
    ),
    "root of the host": ("launch:\n  writable: [/]\n", ["launch.writable[0] = / is the root of the host"]),
    "path both ways": (
        "launch:\n  read_only: [/a]\n  writable: [/a/]\n",
        [":3: launch.writable = [/a/] names /a, which is in read_only too"],
    ),
    "name of a variable": ("launch:\n  environment: {a b: c}\n", [":2: launch.environment.a b = ***"]),
    "truth value as text": ("launch:\n  environment: [A]\n", ["launch.environment = [***] is not a mapping"]),
    "weight": ("launch:\n  cpu_weight: 0\n", ["launch.cpu_weight = 0 is below 1", "100 is normal"]),
    "duplicate key": (
        "launch:\n  tmp_mb: 1\n  tmp_mb: 2\n",
        [":3: launch.tmp_mb is given twice, first in line 2", "keep one of the two lines"],
    ),
    "duplicate key of processing": ("processing:\n  a: 1\n  a: 2\n", [":3: processing.a is given twice"]),
    "duplicate section": ("launch: {}\nlaunch: {}\n", [":2: launch is given twice, first in line 1"]),
    "section that is a word": (
        "launch: docker\n",
        [":1: launch = docker is not a section", "indent the fields"],
    ),
    "section that is a list": ("processing:\n- 1\n", [":1: processing = [1] is not a section"]),
    "resource outside": (
        "n_max_threads: 4\n",
        [":1: n_max_threads is outside of the section", "below processing:"],
    ),
    "tag": ("launch: !mine {}\n", [":1: launch has the YAML tag !mine"]),
    "list at the top": ("- a\n", [":1: the file holds a list instead of sections", "processing:"]),
    "text at the top": ("hello\n", [":1: the file holds a text instead of sections"]),
    "YAML": (
        "processing:\n  n_max_threads: 4: 5\n",
        [":2:19: this is not YAML", "      n_max_threads: 4: 5\n                      ^", "in quotes"],
    ),
    "tab": ("launch:\n\tbackend: docker\n", [":2:1: this is not YAML", "indent with spaces"]),
    "bracket left open": ("launch: {tmp_mb: 1\n", [":1:19: this is not YAML", "begins in line 1"]),
    "two documents": ("launch: {}\n---\nlaunch: {}\n", [":2:1: this is not YAML", "more than one document"]),
    "endless nesting": ("[" * 5000, ["the file is nested too deeply"]),
    "nothing to merge": ("launch:\n  <<: 5\n", [":2:7: this is not YAML", "for merging, but found scalar"]),
    "control characters": ("launch: \x01\n", [":1:9: this is not YAML", "special characters"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_says_where_what_and_what_to_do(refuse, case):
    """Each message names file, line, field, value, what is allowed and a remedy."""
    text, expected = REFUSED[case]
    message, path = refuse(text)
    assert "(1 problem)" in message
    assert f"\n{path}" in message
    assert "  to do: " in message
    for part in expected:
        assert part in message


def test_all_problems_are_told_at_once(refuse):
    """File and environment are refused together, in the order of the file, each problem once."""
    message, path = refuse(
        "launch:\n  bakend: docker\n  tmp_mb: 0\nprocessing:\n  resource_mode: manual\n  nice_priority: 99\n",
        {"CANVOD_INGEST__READER": "auto", "CANVOD_LAUNCH__BAKEND": "process"},
    )
    assert message.startswith("These settings cannot be used (6 problems).")
    places = [line.split(": ")[0] for line in message.splitlines()[1:] if not line.startswith(" ")]
    assert places == [
        f"{path}:2",
        f"{path}:3",
        f"{path}:5",
        f"{path}:6",
        "environment variable CANVOD_LAUNCH__BAKEND",
        "environment variable CANVOD_INGEST__READER",
    ]


def test_all_faults_of_a_list_are_told_at_once(refuse):
    """Invalid items and repeated ones are told together, each with its index or its name."""
    message, path = refuse("processing:\n  cpu_affinity: [0, -1, a, -1, 1, 1]\n  nice_priority: 20\n")
    assert "(5 problems)" in message
    for fault in ("[1] = -1 is below 0", "[2] = a is not a whole number", "[3] = -1 is below 0"):
        assert f"\n{path}:2: processing.cpu_affinity{fault}\n" in message
    assert "processing.cpu_affinity = [0, -1, a, -1, 1, 1] names core 1 more than once" in message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CANVOD_LAUNCH__BAKEND": "process"}, "did you mean CANVOD_LAUNCH__BACKEND?"),
        ({"CANVOD_PROCESSING__N_MAX_THREAD": "4"}, "did you mean CANVOD_PROCESSING__N_MAX_THREADS?"),
        ({"CANVOD_LAUNCH__BUILD": "{}"}, "set its fields, such as CANVOD_LAUNCH__BUILD__CA_BUNDLE"),
        ({"CANVOD_LAUNCH__BACKEND__X": "1"}, "set CANVOD_LAUNCH__BACKEND, which has no parts"),
        ({"CANVOD_PROCESSING__CPU_AFFINITY": "0,1"}, "processing.cpu_affinity = 0,1 is not a list"),
        ({"CANVOD_PROCESSING__CPU_AFFINITY": "[0, true]"}, "cpu_affinity[1] = true is a truth value"),
        ({"CANVOD_LAUNCH__ENVIRONMENT": "A=1"}, "launch.environment = *** is not a mapping"),
        ({"CANVOD_LAUNCH__TMP_MB": "010"}, "launch.tmp_mb = 010 is not a decimal number"),
        ({"CANVOD_LAUNCH__TMP_MB": "64MB"}, "launch.tmp_mb = 64MB is not a whole number"),
    ],
)
def test_environment_is_refused_by_the_name_of_the_variable(environ, expected):
    """A variable of the form of a setting must be one, and hold an allowed value."""
    message = str(refused(None, environ))
    assert f"environment variable {next(iter(environ))}: " in message
    assert expected in message


def test_settings_given_in_python_are_refused_alike():
    """Without a file the message names the field, and where the value was given."""
    message = str(refused({"launch": {"python": 3.14, "bakend": 1}, "processing": [1]}))
    assert "settings given in Python: launch.python = 3.14 is not text" in message
    assert 'write "3.14", in quotes' in message
    assert "launch.bakend = 1 is not a field of launch" in message
    assert "processing = [1] is not a section" in message


def test_file_that_is_not_there(tmp_path):
    """A missing file names the file that was most likely meant."""
    (tmp_path / "processing.yaml").touch()
    message = str(refused(tmp_path / "procesing.yaml"))
    assert f"{tmp_path}/procesing.yaml: there is no such file" in message
    assert f"did you mean {tmp_path}/processing.yaml?" in message


def test_folder_is_no_file(tmp_path):
    """A folder is refused with the settings file in it."""
    (tmp_path / "lab.yaml").touch()
    message = str(refused(tmp_path))
    assert "it is a folder, not a file" in message
    assert f"did you mean {tmp_path}/lab.yaml?" in message


def test_file_that_may_not_be_read(tmp_path):
    """Missing permission names the command that gives it."""
    path = tmp_path / "processing.yaml"
    path.touch(mode=0o000)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # root may read everything
    try:
        message = str(refused(path))
    finally:
        os.seteuid(before)
    assert "this user may not read it" in message
    assert f"chmod u+r {path}" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"launch:\n  # \xe9t\xe9\n", "not UTF-8 text (byte 0xe9 in line 2)"),
        (b"# " + b"x" * (4 * 1024**2), "larger than 4 MiB"),
    ],
)
def test_file_that_holds_no_settings(tmp_path, content, expected):
    """Files of another encoding or size are refused before they are parsed."""
    path = tmp_path / "processing.yaml"
    path.write_bytes(content)
    assert expected in str(refused(path))


def test_text_with_a_mark_of_byte_order_is_read(tmp_path):
    """Editors of other systems write one; it is no error."""
    path = tmp_path / "processing.yaml"
    path.write_bytes(b"\xef\xbb\xbflaunch: {tmp_mb: 3}\n")
    assert load_settings(path, environ={}).launch.tmp_mb == 3


def test_pipe_can_be_read():
    """A settings file may come from a pipe, as from a shell's <(...)."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        stream.write("launch: {tmp_mb: 3}\n")
    try:
        assert load_settings(f"/dev/fd/{read}", environ={}).launch.tmp_mb == 3
    finally:
        os.close(read)


def test_error_lists_its_problems_as_values():
    """Programs find each problem in the error, and the error survives a pickle."""
    error = refused({"launch": {"tmp_mb": 0}})
    assert isinstance(error, SettingsError)
    assert error.exit_status is ExitStatus.REFUSED
    (problem,) = error.problems
    assert (problem.field, problem.given) == ("launch.tmp_mb", "0")
    assert problem.as_json()["allowed"] == problem.allowed
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    assert (str(copy), copy.problems) == (str(error), error.problems)


def test_no_secret_is_in_a_refusal(refuse):
    """Neither a password of an address nor a value of the environment is repeated in a log."""
    message, _ = refuse(
        "launch:\n  environment: {TOKEN: {a: hush}, B: [hush], C: !hush x}\n"
        "  build:\n    index_url: ftp://me:hush@host/\n"
    )
    assert "hush" not in message
    assert "ftp://***@host/" in message


@pytest.mark.parametrize(
    "lines",
    [
        "  environment: {TOKEN: hush",
        "  environment:\n    A: b\n\n    TOKEN: hush: hush",
        "  environment:\n    TOKEN: 'hush",
        "  environment:\n    TOKEN: *hush",
        "  build:\n    index_url: https://me:hush@host/: x",
    ],
)
def test_no_secret_is_in_the_excerpt_of_what_is_not_yaml(refuse, lines):
    """The line that PyYAML cannot read is shown, unless it may hold a value of the environment."""
    message, path = refuse(f"launch:\n{lines}\n")
    assert f"{path}:" in message
    assert "this is not YAML" in message
    assert "hush" not in message


def test_a_mistaken_type_is_a_mistake_of_the_program():
    """What is neither path nor mapping is no user's mistake, nor is an override of no field."""
    with pytest.raises(TypeError, match="not int"):
        load_settings(4)
    with pytest.raises(ValueError, match=re.escape("launch.bakend")):
        load_settings(None, environ={}, overrides={"launch.bakend": "docker"})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
fields = st.sampled_from(
    [
        "resource_mode",
        "n_max_threads",
        "cpu_affinity",
        "backend",
        "python",
        "environment",
        "build",
        "variables",
        "x",
    ]
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(fields | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["processing", "launch", "ingest", "other"]), trees))
def test_any_values_load_or_are_refused_in_words(values):
    """Whatever a mapping holds, it gives settings or one ConfigError with a remedy for each problem."""
    try:
        load_settings(values, environ={})
    except SettingsError as error:
        refusal = error
    else:
        return
    assert refusal.problems
    assert str(refusal).count("  to do: ") >= len(refusal.problems)


@given(st.text() | st.text(alphabet="processinglaunch:{}[]&*!|>-'\"#%@ \n\t01"))
def test_any_file_loads_or_is_refused_in_words(tmp_path_factory, text):
    """Whatever a file holds, it gives settings or one ConfigError that names the file."""
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_settings(path, environ={})
    except SettingsError as error:
        message = str(error)
    else:
        return
    assert str(path) in message
