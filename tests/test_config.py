"""Loading of settings: what is accepted, and from where."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.config import (
    IngestSettings,
    LaunchSettings,
    ProcessingSettings,
    Settings,
    field_names,
    json_schema,
    load_settings,
    without_secrets,
)
from canvod.launch.config.catalogue import fields, rule_of
from canvod.launch.errors import ConfigError

SHIPPED = Path(__file__).parents[1] / "config" / "processing.yaml"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a settings file and returns its path."""

    def write_file(text):
        path = tmp_path / "processing.yaml"
        path.write_text(text)
        return path

    return write_file


def load(source=None, environ=None, **options):
    """Load with an environment of its own, so that the caller's never matters."""
    return load_settings(source, environ=environ or {}, **options)


def test_nothing_given_is_the_defaults():
    """Without source and environment all values are the models' defaults, and say so."""
    settings = load()
    assert settings == Settings()
    assert settings.warnings == ()
    assert all(settings.origin(name).kind == "default" for name in field_names())
    assert settings.origin("launch.backend").place is None
    assert settings.cite("launch.backend") == "launch.backend = auto (default)"


def test_every_field_describes_itself():
    """Every field has a description for the schema and a rule for refusals."""
    for name in field_names():
        assert fields()[name].description, name
        rule = rule_of(name)
        assert rule is not None, name
        assert rule.allowed
        assert rule.remedy


def test_shipped_file_holds_every_field_with_its_default():
    """config/processing.yaml changes nothing, and leaves no field of ours out."""
    settings = load(SHIPPED)
    assert settings == Settings()
    assert settings.warnings == ()
    assert {name for name in field_names() if settings.origin(name).kind == "file"} == set(field_names())


def test_values_know_their_line(write):
    """A value is located by file and line, list items included."""
    path = write(
        "processing:\n  cpu_affinity:\n    - 0\n    - 1\nlaunch:\n  build:\n    ca_bundle: /ca.pem\n"
    )
    settings = load(path)
    assert settings.origin("processing.cpu_affinity").place == f"{path}:2"
    assert settings.origin("processing.cpu_affinity.1").place == f"{path}:4"
    assert settings.origin("launch.build.ca_bundle").place == f"{path}:7"
    assert settings.cite("processing.cpu_affinity") == f"{path}:2: processing.cpu_affinity = [0, 1]"
    assert settings.provenance.source == str(path)


def test_provenance_is_no_part_of_equality_or_json(write):
    """Equal values make equal settings, wherever they came from; copies and pickles keep the places."""
    settings = load(write("launch:\n  backend: process\n"))
    same = load({"launch": {"backend": "process"}})
    assert settings == same
    assert settings.model_dump_json() == same.model_dump_json()
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301 (our own)
    assert copy.origin("launch.backend").place == settings.origin("launch.backend").place


def test_ready_settings_are_taken_as_they_are():
    """Settings pass through untouched, and the environment does not change them again."""
    settings = Settings()
    assert load_settings(settings, environ={"CANVOD_LAUNCH__BACKEND": "process"}) is settings


def test_environment_goes_before_the_file_and_options_before_both(write):
    """The order is default, file, environment, option; each value names the place that won."""
    path = write("launch:\n  backend: docker\n  tmp_mb: 8\n  spill_gb: 3\n")
    settings = load(
        path,
        {"CANVOD_LAUNCH__BACKEND": "process", "CANVOD_LAUNCH__TMP_MB": "9"},
        overrides={"launch.backend": "auto", "launch.spill_gb": None},
        overridden_by="--backend",
    )
    assert (settings.launch.backend, settings.launch.tmp_mb, settings.launch.spill_gb) == ("auto", 9, 3.0)
    assert settings.origin("launch.backend").place == "--backend"
    assert settings.origin("launch.tmp_mb").place == "environment variable CANVOD_LAUNCH__TMP_MB"
    assert settings.origin("launch.spill_gb").place == f"{path}:4"
    again = load_settings(settings, overrides={"launch.tmp_mb": 7})
    assert (again.launch.tmp_mb, again.launch.spill_gb) == (7, 3.0)
    assert again.origin("launch.spill_gb").place == f"{path}:4"


def test_environment_takes_lists_mappings_and_null():
    """Lists and mappings are JSON, null unsets a value, names of workers' variables keep their case."""
    settings = load(
        {"launch": {"spill_dir": "/scratch", "environment": {"A": "1", "B": "2"}}},
        {
            "CANVOD_PROCESSING__CPU_AFFINITY": "[2, 3]",
            "CANVOD_INGEST__VARIABLES": '["SNR", "Phase"]',
            "CANVOD_LAUNCH__SPILL_DIR": "null",
            "CANVOD_LAUNCH__BUILD__CA_BUNDLE": "/ca.pem",
            "CANVOD_LAUNCH__ENVIRONMENT": '{"B": 3}',
            "CANVOD_LAUNCH__ENVIRONMENT__My__Name": "null",
            "CANVOD_LAUNCH__TMP_MB": "",
        },
    )
    assert settings.processing.cpu_affinity == (2, 3)
    assert settings.ingest.variables == ("SNR", "Phase")
    assert settings.launch.spill_dir is None
    assert settings.launch.build.ca_bundle == Path("/ca.pem")
    assert settings.launch.environment == {"A": "1", "B": "3", "My__Name": "null"}
    assert settings.launch.tmp_mb == LaunchSettings().tmp_mb


def test_null_unsets_what_the_file_gives(write):
    """In processing null stands for "not set", in a variable as in a file: the default is back."""
    path = write("processing:\n  nice_priority: 7\n  n_max_threads: 4\n")
    environ = {"CANVOD_PROCESSING__NICE_PRIORITY": "null", "CANVOD_PROCESSING__N_MAX_THREADS": "null"}
    assert load(path, environ) == Settings()


def test_other_variables_are_left_alone():
    """Variables that begin with CANVOD_ and are not of the form of a setting mean nothing here."""
    environ = {
        "CANVOD_REQUIRE_DOCKER": "1",
        "CANVOD_TEST_DATA": "/data",
        "CANVOD__PROCESSING__STORAGE__STORES_ROOT_DIR": "/stores",
        "CANVOD_STORE__PATH": "x",
        "PATH": "/bin",
    }
    settings = load(environ=environ)
    assert settings == Settings()
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CANVOD_LAUNCH_BACKEND", "CANVOD_LAUNCH__BACKEND"),
        ("CANVOD_LAUCH__BACKEND", "CANVOD_LAUNCH__BACKEND"),
    ],
)
def test_a_variable_that_resembles_a_setting_is_warned_of(variable, meant):
    """A misspelt prefix is left alone, but not in silence."""
    (warning,) = load(environ={variable: "process"}).warnings
    assert variable in warning
    assert f"did you mean {meant}?" in warning


def test_auto_mode_ignores_n_max_threads_and_says_so(write):
    """The warning is carried by the settings and names the line."""
    path = write("processing:\n  n_max_threads: 4\n")
    (warning,) = load(path).warnings
    assert warning.startswith(f"{path}:2: processing.n_max_threads = 4 is ignored")
    assert Settings(processing=ProcessingSettings(n_max_threads=4)).warnings


def test_text_is_taken_as_it_is_written(write):
    """YAML 1.1 reads 3.10 as 3.1, on as true and 1000:50 in base 60; none of it happens to text."""
    settings = load(
        write(
            "launch:\n  python: 3.20\n  user: 1000:50\n"
            '  environment: {A: on, B: 0x10, C: 2025-01-01, D: "~"}\n'
        )
    )
    assert settings.launch.python == "3.20"
    assert settings.launch.user == "1000:50"
    assert settings.launch.environment == {"A": "on", "B": "0x10", "C": "2025-01-01", "D": "~"}


def test_anchors_and_merge_keys_work(write):
    """What YAML offers against repetition is no duplicate."""
    settings = load(write("base: &base {tmp_mb: 3, pids_limit: 100}\nlaunch:\n  <<: *base\n  tmp_mb: 4\n"))
    assert (settings.launch.tmp_mb, settings.launch.pids_limit) == (4, 100)


def test_foreign_sections_are_left_alone(write):
    """A canVODpy file loads, whatever its other sections hold: tags, duplicates, other types."""
    text = """
icechunk: !custom {level: 3, level: 4}
storage: /data
preprocessing: [1, 2]
processing:
  resource_mode: manual
  n_max_threads: 2
  metadata: {author: A, author: B}
  credentials: null
  threads_per_worker: null
"""
    settings = load(write(text))
    assert settings.processing == ProcessingSettings(resource_mode="manual", n_max_threads=2)
    assert settings.warnings == ()


def test_canvodpy_keeps_the_resources_in_params(write):
    """processing.params is honoured, with its lines and a warning; fields of processing go before it."""
    path = write(
        "processing:\n  nice_priority: 5\n  params:\n    nice_priority: 7\n"
        "    resource_mode: manual\n    n_max_threads: 3\n    cpu_affinity: [0, 1]\n"
    )
    settings = load(path)
    assert settings.processing == ProcessingSettings(
        resource_mode="manual", n_max_threads=3, cpu_affinity=(0, 1), nice_priority=5
    )
    assert settings.origin("processing.n_max_threads").place == f"{path}:6"
    assert settings.origin("processing.cpu_affinity.1").place == f"{path}:7"
    (warning,) = settings.warnings
    assert "processing.params" in warning
    with pytest.raises(ConfigError, match=r":2: processing.nice_priority = -5 is below 0"):
        load(write("processing:\n  params: {nice_priority: -5}\n"))


@pytest.mark.parametrize("name", ["templates/canvod-settings.yaml.example", "defaults/processing.yaml"])
def test_canvodpys_own_files_load(name):
    """The settings files that canVODpy ships load unchanged."""
    config = pytest.importorskip("canvod.config")
    settings = load(Path(config.__file__).parent / name)
    assert settings == Settings()
    assert settings.warnings == ()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "launch:\n", "processing: ~\ningest: {}\n"])
def test_empty_files_and_sections_are_defaults(write, text):
    """A section whose lines are all commented out is no mistake."""
    assert load(write(text)) == Settings()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lauch: {backend: docker}\n", "section lauch is not read; did you mean launch?"),
        (
            "processing: {cpu_afinity: [0]}\n",
            "processing.cpu_afinity is not read; did you mean cpu_affinity?",
        ),
    ],
)
def test_misspelt_names_among_foreign_ones_are_warned_of(write, text, found):
    """Where other keys are accepted, one that looks misspelt is told, with its line."""
    path = write(text)
    (warning,) = load(path).warnings
    assert warning == f"{path}:1: {found}"


def test_values_given_in_python_may_be_sections():
    """A mapping may hold plain values or sections that are ready; the environment still goes before them."""
    source = {"launch": LaunchSettings(tmp_mb=5, pids_limit=99), "ingest": {"reader": "canvod"}}
    settings = load(source, {"CANVOD_LAUNCH__TMP_MB": "6"})
    assert (settings.launch.tmp_mb, settings.launch.pids_limit) == (6, 99)
    assert settings.ingest == IngestSettings(reader="canvod")
    assert settings.origin("launch.pids_limit").place == "settings given in Python"


def test_paths_begin_at_home_or_root():
    """A path may begin with ~ and is normalised."""
    settings = load({"launch": {"read_only": ["~/data", "/a/../b/"]}})
    assert settings.launch.read_only == (Path.home() / "data", Path("/b"))


def test_no_secret_is_shown():
    """Neither repr nor JSON for people show a password of an address or a value of the environment."""
    settings = load(
        {
            "launch": {
                "environment": {"TOKEN": "hush"},
                "build": {"index_url": "https://me:hush@pypi.example/simple"},
            }
        }
    )
    texts = [repr(settings), settings.cite("launch.build.index_url"), settings.cite("launch.environment")]
    for text in [*texts, str(without_secrets(settings)), str(settings.provenance)]:
        assert "hush" not in text
        assert "pypi.example" in text or "TOKEN" in text
    assert settings.launch.environment == {"TOKEN": "hush"}


def test_schema_is_for_editors():
    """The schema names its draft, describes every field, and refuses unknown keys in our sections."""
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name in field_names():
        section, _, field = name.rpartition(".")
        definition = schema["$defs"][fields()[section].annotation.__name__]
        assert definition["properties"][field]["description"], name
    for model in ("LaunchSettings", "BuildSettings", "IngestSettings"):
        assert schema["$defs"][model]["additionalProperties"] is False
    assert "additionalProperties" not in schema["$defs"]["ProcessingSettings"]
    assert schema["$defs"]["ProcessingSettings"]["then"]["required"] == ["n_max_threads"]


def test_schema_has_the_limits_of_every_number():
    """Editors know the words of JSON Schema alone; a limit under another name is none."""
    limits = {}

    def walk(node, name):
        if isinstance(node, dict):
            assert not node.keys() & {"ge", "gt", "le", "lt"}, name
            if node.get("type") in {"integer", "number"}:
                limits.setdefault(name, set()).update({"minimum", "exclusiveMinimum"} & node.keys())
            for key, value in node.items():
                walk(value, key if key in names else name)
        for item in node if isinstance(node, list) else ():
            walk(item, name)

    names = {name.rpartition(".")[2] for name in field_names()}
    walk(json_schema()["$defs"], None)
    assert {"n_max_threads", "cpu_affinity", "reserve_memory_gb", "spill_gb", "tmp_mb"} <= limits.keys()
    assert all(limits.values()), limits


amounts = st.floats(0.001, 1e6)
paths = st.from_regex(r"(/[a-z]([a-z ]{0,6}[a-z])?){1,3}", fullmatch=True)
settings_values = st.fixed_dictionaries(
    {
        "processing": st.fixed_dictionaries(
            {"resource_mode": st.just("manual"), "n_max_threads": st.integers(1, 999)},
            optional={
                "max_memory_gb": amounts,
                "threads_per_worker": st.integers(1, 64),
                "cpu_affinity": st.lists(st.integers(0, 1023), min_size=1, max_size=8, unique=True),
                "nice_priority": st.integers(0, 19),
            },
        ),
        "launch": st.fixed_dictionaries(
            {},
            optional={
                "backend": st.sampled_from(["auto", "docker", "process"]),
                "python": st.sampled_from([None, "3.12", "3.13", "3.14", "3.20"]),
                "packages": st.lists(st.sampled_from(["numba", "a==1", "/lab/r.txt"]), max_size=3),
                "user": st.tuples(st.integers(1, 2**31), st.integers(0, 2**31)).map("{0[0]}:{0[1]}".format),
                "cpu_weight": st.none() | st.integers(1, 10000),
                "spill_gb": amounts,
                "read_only": st.lists(paths, max_size=3, unique=True),
                "environment": st.dictionaries(
                    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True),
                    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])),
                    max_size=3,
                ),
            },
        ),
        "ingest": st.fixed_dictionaries(
            {},
            optional={
                "variables": st.lists(
                    st.sampled_from(["SNR", "Pseudorange", "Phase", "Doppler"]), min_size=1, unique=True
                ),
                "chunk": st.none() | st.tuples(st.integers(1, 10**6), st.integers(1, 10**4)).map(list),
            },
        ),
    }
)


@given(settings_values)
def test_a_file_says_what_python_says(tmp_path_factory, values):
    """Valid values are the same settings in Python, in YAML and in the settings' own JSON."""
    path = tmp_path_factory.mktemp("settings") / "processing.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    settings = load(values)
    assert load(path) == settings
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    for section, given_fields in values.items():
        assert all(load(path).origin(f"{section}.{field}").kind == "file" for field in given_fields)
