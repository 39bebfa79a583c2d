"""Heatmaps of a group: what is averaged, what is read for it, where the ticks are, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.cli import main
from canvod.launch.cli import plot as module
from canvod.launch.cli.plot import TICK_STEPS, Heatmap, draw_heatmap, make_heatmap, save_png, time_ticks
from canvod.launch.errors import ExitStatus, InputError, install_command
from canvod.launch.ingest.read import open_arrays, open_group
from ingest_files import run_inline, write_windows

if TYPE_CHECKING:
    from pathlib import Path

GROUP = "site/receiver"
S = 10**9
MIDNIGHT = 1735689600 * S
DAY_S = 86400
STEPS_S = {
    np.timedelta64(int(step[:-1]), step[-1]) // np.timedelta64(1, "s")
    for step in TICK_STEPS
    if step[-1] not in "MY"
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one group of two files."""
    run_inline(write_windows(tmp_path / "in", [0, 10]), tmp_path / "store")
    return tmp_path / "store"


def make_group(epochs: Any, *, chunk: int = 10, sids: tuple[str, ...] = ("G01|L1|C",)) -> Any:
    """A group in memory whose values are the index of their epoch."""
    group = zarr.group()
    values = np.repeat(np.arange(len(epochs), dtype="f4")[:, None], len(sids), axis=1)
    group.create_array("SNR", data=values, chunks=(chunk, len(sids)), dimension_names=("epoch", "sid"))
    time = group.create_array("epoch", data=np.array(epochs, "i8"), dimension_names=("epoch",))
    time.attrs["units"] = "nanoseconds since 1970-01-01"
    group.create_array("sid", data=np.array(sids), dimension_names=("sid",))
    return group


def test_a_heatmap_averages_what_was_observed(store: Path) -> None:
    """Each cell is the mean of its kind of signal in its bin, and NaN where nothing was seen."""
    dataset = open_group(store, GROUP).compute(scheduler="sync")
    heatmap = make_heatmap(open_arrays(store), bins=4)
    assert heatmap.values.shape == (4, 4)
    assert not heatmap.sampled
    for row, label in enumerate(heatmap.labels):
        mine = [f"{sid[0]} {sid.partition('|')[2]}" == label for sid in map(str, dataset.sid.values)]
        for column in range(4):
            part = dataset.SNR.values[5 * column : 5 * column + 5, mine]  # the files begin at midnight
            wanted = np.nan if np.isnan(part).all() else np.nanmean(part)
            assert heatmap.values[row, column] == pytest.approx(wanted, nan_ok=True)
    assert "█" in draw_heatmap(heatmap, color=True).plain
    with pytest.raises(InputError, match="the group holds no Phase; it holds SNR"):
        make_heatmap(open_arrays(store), "Phase")


def test_a_heatmap_needs_no_more_than_ascii(store: Path) -> None:
    """Its shades differ where there is ASCII alone."""
    code = "import sys; from canvod.launch.cli import main; sys.exit(main(['store', 'plot', sys.argv[1]]))"
    drawn = subprocess.run(
        [sys.executable, "-c", code, str(store)],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        timeout=120,
    ).stdout.decode("ascii")
    assert "?" not in drawn
    assert len({*drawn.splitlines()[2].removeprefix("E E1|C ").strip()} & {*module.ASCII_SHADES}) > 1


def test_columns_are_equal_parts_of_time() -> None:
    """Where files are missing the heatmap is empty, and the ticks stay true."""
    hours = [*range(6), *range(18, 24)]
    heatmap = make_heatmap(make_group([MIDNIGHT + hour * 3600 * S for hour in hours]), bins=24)
    assert heatmap.values[0].tolist()[:6] == [0, 1, 2, 3, 4, 5]
    assert np.isnan(heatmap.values[0, 6:18]).all()
    assert heatmap.values[0].tolist()[18:] == [6, 7, 8, 9, 10, 11]
    assert list(heatmap.ticks(4)) == [(0, "2025-01-01"), (6, "06:00"), (12, "12:00"), (18, "18:00")]


@pytest.mark.parametrize(
    ("units", "values"),
    [
        ("seconds since 1970-01-01", [MIDNIGHT // S, MIDNIGHT // S + 30]),
        ("milliseconds since 2025-01-01T00:00:00Z", [0, 30_000]),
        ("days since 2024-12-31 00:00:00", [1, 2]),
    ],
)
def test_epochs_of_other_origin_are_read_by_their_unit(units: str, values: list[int]) -> None:
    """A group that xarray has written has units of its own."""
    group = make_group(values)
    group["epoch"].attrs["units"] = units
    assert make_heatmap(group).start == MIDNIGHT
    group["epoch"].attrs["units"] = "GPS weeks"
    with pytest.raises(InputError, match="the epochs of the group are in 'GPS weeks'"):
        make_heatmap(group)


def test_of_a_long_column_only_some_chunks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole chunks, once each, until each column has enough; and each column has some."""
    monkeypatch.setattr(module, "BIN_EPOCHS", 20)
    monkeypatch.setattr(module, "BLOCK_BYTES", 80)
    # Two dense columns, and between them one with a single epoch, in a chunk with those of the third.
    epochs = [*range(1000), 1995, *range(2000, 3000)]
    group = make_group([MIDNIGHT + epoch * S for epoch in epochs])
    told: list[tuple[int, int]] = []
    heatmap = make_heatmap(group, bins=3, progress=lambda done, total: told.append((done, total)))
    assert heatmap.sampled
    assert np.isfinite(heatmap.values).all()
    assert heatmap.values[0, 1] == 1000
    assert told == [(n, 3) for n in range(3)]
    assert f"(of each column some {module.BIN_EPOCHS} epochs)" in draw_heatmap(heatmap, color=False).plain


@given(
    start=st.integers(0, 2**62),
    length=st.integers(1, 10**18),
    limit=st.integers(1, 20),
)
def test_ticks_are_at_round_times(start: int, length: int, limit: int) -> None:
    """At most so many, inside the axis, and at equal steps that divide days; or at the first of a month."""
    ticks = time_ticks(start, start + length, limit)
    assert len(ticks) <= limit
    assert all(start <= epoch < start + length for epoch, _ in ticks)
    steps = {after - epoch for (epoch, _), (after, _) in pairwise(ticks)}
    if len(steps) == 1 and (step := steps.pop()) < 28 * DAY_S * S:
        assert step // S in STEPS_S
        assert all(epoch % min(step, DAY_S * S) == 0 for epoch, _ in ticks)
    elif length > 400 * DAY_S * S:
        assert all(label.endswith("-01") for _, label in ticks)


@pytest.mark.parametrize(
    ("start_s", "length_s", "limit", "labels"),
    [
        (0, 900, 4, ["2025-01-01", "00:05", "00:10"]),
        (25, 60, 4, ["00:00:30", "00:00:45", "00:01:00", "00:01:15"]),
        (0, 4 * 3600, 9, ["2025-01-01", "00:30", "01:00", "01:30", "02:00", "02:30", "03:00", "03:30"]),
        (3600, DAY_S, 5, ["06:00", "12:00", "18:00", "2025-01-02"]),
        (0, 3 * DAY_S, 3, ["2025-01-01", "2025-01-02", "2025-01-03"]),
        (0, 30 * DAY_S, 4, ["2025-01-06", "2025-01-13", "2025-01-20", "2025-01-27"]),
        (0, 365 * DAY_S, 4, ["2025-01-01", "2025-04-01", "2025-07-01", "2025-10-01"]),
        (1, 1, 4, ["00:00:01"]),
    ],
)
def test_ticks_of_common_spans(start_s: int, length_s: int, limit: int, labels: list[str]) -> None:
    """A file, a minute, some hours, a day, days, a month, a year."""
    start = MIDNIGHT + start_s * S
    assert [label for _, label in time_ticks(start, start + length_s * S, limit)] == labels


@given(start=st.integers(0, 2**60), length=st.integers(1, 10**17), bins=st.integers(1, 148))
def test_each_tick_of_a_terminal_is_where_its_time_is(start: int, length: int, bins: int) -> None:
    """Labels never push a tick aside, nor reach beyond the heatmap."""
    heatmap = Heatmap("SNR", ("G L1|C",), np.zeros((1, bins)), start, start + length, start, sampled=False)
    line = draw_heatmap(heatmap, color=False).plain.splitlines()[2][len("G L1|C ") :]
    assert len(line) <= bins
    bars = [column for column, character in enumerate(line) if character == "|"]
    assert bars == [int(position) for position, _ in heatmap.ticks(max(1, bins // module.LABEL_COLUMNS - 1))]


def test_plot_draws_in_the_terminal_and_as_png(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``store plot`` draws a line for each kind of signal; --output writes a PNG."""
    assert main(["store", "plot", str(store)]) == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Mean SNR (dB-Hz) of the satellites with each signal"
    assert [line.split(" ")[0] for line in lines[1:5]] == ["C", "E", "G", "R"]
    assert lines[6].split() == ["2025-01-01T00:00:00", "to", "2025-01-01T00:01:35", "GPS", "time"]
    pytest.importorskip("matplotlib")
    assert main(["store", "plot", str(store), "-o", str(tmp_path / "x.png")]) == ExitStatus.OK
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert main(["store", "plot", str(store), "-o", str(tmp_path / "none" / "x.png")]) == ExitStatus.REFUSED
    assert "x.png cannot be written: " in capsys.readouterr().err


def test_the_png_has_the_same_ticks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its axis is time, with ticks at the same round times."""
    figure = pytest.importorskip("matplotlib.figure")
    made: list[Any] = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: made.append(self))
    heatmap = make_heatmap(make_group([MIDNIGHT + 900 * S * n for n in range(96)]))
    save_png(heatmap, tmp_path / "x.png")
    axis = made[0].axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == [
        *("2025-01-01", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00")
    ]
    assert axis.get_xlim() == (0, heatmap.values.shape[1])


def test_plot_without_group_takes_the_only_one_or_names_them(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several groups one has to be named, and the message names them all."""
    run_inline(write_windows(tmp_path / "in", [0]), store, group="site/canopy")
    assert main(["store", "plot", str(store)]) == ExitStatus.REFUSED
    shown = capsys.readouterr().err
    assert "holds 2 groups: site/canopy, site/receiver" in shown
    assert "--group site/canopy" in shown
    assert main(["store", "plot", str(store), "--group", "site/other"]) == ExitStatus.REFUSED
    assert "holds no group 'site/other'; it holds site/canopy, site/receiver" in capsys.readouterr().err


def test_a_missing_matplotlib_is_told_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where there is no store: nothing has been looked at yet."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["store", "plot", str(tmp_path / "none"), "-o", "x.png"]) == ExitStatus.REFUSED
    shown = capsys.readouterr().err
    assert "needs matplotlib, which cannot be imported" in shown
    assert install_command("canvod-launch[plot]") in shown


def test_plot_imports_no_xarray_and_no_dask(store: Path) -> None:
    """Their import takes longer than everything else that a heatmap needs."""
    code = (
        "import sys; from canvod.launch.cli import main; main(['store', 'plot', sys.argv[1]])\n"
        "print(*{'xarray', 'pandas', 'dask', 'distributed', 'matplotlib'} & {*sys.modules}, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(store)], check=True, capture_output=True, text=True, timeout=120
    )
    assert ended.stderr.strip() == ""


@pytest.mark.parametrize(
    ("pip", "command"),
    [
        (True, f"{sys.executable} -m pip install 'canvod-launch[plot]'"),
        (False, f"uv pip install --python {sys.executable} 'canvod-launch[plot]'"),
    ],
)
def test_the_command_that_installs_fits_the_environment(
    monkeypatch: pytest.MonkeyPatch, *, pip: bool, command: str
) -> None:
    """Environments of uv have no pip."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: SimpleNamespace() if pip else None)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/uv")
    assert install_command("canvod-launch[plot]") == command


def test_uv_is_found_where_the_environment_was_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without uv on PATH: beside Python, or where the Makefile keeps its own."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert install_command("x").startswith("uv pip install --python ")
    kept = tmp_path / ".cache" / "uv-0.13.9" / "bin" / "uv"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert install_command("x").startswith(f"{kept} pip install --python ")
