"""A heatmap of a group: signal strength over time, for each kind of signal, on a terminal or as PNG.

Neither xarray nor Dask is imported here: that takes longer than to read what a heatmap needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.text import Text

from canvod.launch.errors import DependencyError, InputError, install_command
from canvod.launch.ingest.report import format_epoch
from canvod.launch.units import MIB

if TYPE_CHECKING:
    import os

    import zarr

BIN_EPOCHS = 2000
"""About so many epochs are read for one column, so that a heatmap of a year takes seconds."""

BLOCK_BYTES = 32 * MIB
"""Chunks that follow each other are read together up to this size."""

SHADES = "·░▒▓█"
"""Without colours: none, weak … strong."""

ASCII_SHADES = ".:+*#"
"""The same for terminals and files that have ASCII only."""

PALETTE = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")
"""Six colours of matplotlib's viridis, from weak to strong."""

LABEL_COLUMNS = 12
"""Columns of a terminal that a tick takes with its label, a date, and the space after it."""

PNG_TICKS = 9

TICK_STEPS = (
    *("1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m"),
    *("1h", "2h", "3h", "6h", "12h", "1D", "2D", "1W", "2W"),
    *("1M", "2M", "3M", "6M", "1Y", "2Y", "5Y", "10Y"),
)
"""Distances of ticks, as numpy spells units of time."""

MONDAY = np.timedelta64(4, "D")
"""numpy's weeks begin as 1970 did, on a Thursday."""


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Mean of a variable for each kind of signal in bins of time.

    Attributes
    ----------
    title : str
        What is shown, with its unit.
    labels : tuple of str
        Kinds of signals, ``G L1|C``.
    values : numpy.ndarray
        Shape (n_labels, n_bins), float64; NaN where nothing was observed.
    start, end : int
        The time axis, nanoseconds since 1970-01-01: bins are equal parts of it.
    last_epoch : int
        The last epoch; the first one is the start.
    sampled : bool
        True where only part of the epochs was read.
    """

    title: str
    labels: tuple[str, ...]
    values: npt.NDArray[np.float64]
    start: int
    end: int
    last_epoch: int
    sampled: bool

    def limits(self) -> tuple[float, float]:
        """Choose the range of the colours: the 2nd and the 98th percentile of the values.

        Returns
        -------
        tuple of two float
            Lower and upper end, in the unit of the values; 0 and 1 where there are no values.
        """
        seen = self.values[np.isfinite(self.values)]
        if not len(seen):
            return 0.0, 1.0
        low, high = (float(limit) for limit in np.percentile(seen, [2, 98]))
        return low, high if high > low else low + 1.0

    def span(self) -> str:
        """Write the first and the last epoch.

        Returns
        -------
        str
            Both in ISO 8601, GPS time.
        """
        return f"{format_epoch(self.start)} to {format_epoch(self.last_epoch)} GPS time"

    def ticks(self, limit: int) -> list[tuple[float, str]]:
        """Choose round times on the time axis.

        Parameters
        ----------
        limit : int
            The most ticks, at least 1.

        Returns
        -------
        list of tuple of float and str
            Positions in bins from the start, and labels, as `time_ticks` gives them.
        """
        length, bins = self.end - self.start, self.values.shape[1]
        ticks = time_ticks(self.start, self.end, limit)
        return [((epoch - self.start) / length * bins, label) for epoch, label in ticks]


def time_ticks(start: int, end: int, limit: int) -> list[tuple[int, str]]:
    """Choose round times on an axis, as many as fit.

    Parameters
    ----------
    start, end : int
        The axis, in nanoseconds since 1970-01-01; the end is not part of it.
    limit : int
        The most ticks, at least 1.

    Returns
    -------
    list of tuple of int and str
        Nanoseconds since 1970-01-01, and labels: the time, at midnight the date. At equal distances of
        seconds, minutes, hours, days, weeks that begin on Monday, months or years; none where no second
        begins on the axis.

    Examples
    --------
    >>> from_midnight = 1735689600 * 10**9
    >>> [label for _, label in time_ticks(from_midnight, from_midnight + 86400 * 10**9, 4)]
    ['2025-01-01', '06:00', '12:00', '18:00']
    """
    for step in TICK_STEPS:
        origin = MONDAY if step.endswith("W") else np.timedelta64(0, "D")
        axis = np.array([start, end - 1], "datetime64[ns]") - origin
        first, last = axis.astype(f"datetime64[{step}]").astype(int)
        if last - first > limit:
            continue
        ticks = np.arange(first, last + 1).astype(f"datetime64[{step}]").astype("datetime64[ns]") + origin
        epochs = [epoch for epoch in ticks.astype(int).tolist() if epoch >= start]
        if len(epochs) <= limit:
            texts = np.datetime_as_string(np.array(epochs, "datetime64[ns]"), "s" if step[-1] == "s" else "m")
            return [(epoch, _tick_label(str(text))) for epoch, text in zip(epochs, texts, strict=True)]
    return []


def _tick_label(text: str) -> str:
    """Take the time out of a text in ISO 8601, at midnight the date."""
    date, _, time = text.partition("T")
    return time if time.strip("0:") else date


def make_heatmap(
    group: zarr.Group,
    variable: str = "SNR",
    *,
    bins: int = 72,
    progress: Callable[[int, int], None] | None = None,
) -> Heatmap:
    """Average a variable over the satellites of each kind of signal, in bins of time.

    Parameters
    ----------
    group : zarr.Group
        A group with the dims ``epoch`` and ``sid``.
    variable : str
        What to show.
    bins : int
        Columns of the heatmap; fewer where there are fewer epochs.
    progress : callable, optional
        Told how many blocks are read, and how many there are.

    Returns
    -------
    Heatmap
        The means, one row for each kind of signal.

    Raises
    ------
    InputError
        If the group does not hold the variable, or no epochs.
    """
    arrays: dict[str, Any] = dict(group.arrays())
    fitting = [name for name, array in arrays.items() if array.metadata.dimension_names == ("epoch", "sid")]
    if variable not in fitting:
        raise InputError(
            f"the group holds no {variable}; it holds {', '.join(sorted(fitting)) or 'no variables'}",
            hint="choose one of these with --variable" if fitting else "choose another group with --group",
        )
    array = arrays[variable]
    epochs = _epochs(arrays["epoch"])
    if not len(epochs):
        raise InputError(f"the group {group.path} holds no epochs", hint="choose another group with --group")
    kinds = [_kind(str(sid)) for sid in arrays["sid"][:]]
    labels = tuple(sorted(set(kinds)))
    members = np.array([[kind == label for label in labels] for kind in kinds], dtype=np.float64)

    start, last = _observed(group, epochs)
    interval = max(1, int(np.median(np.abs(np.diff(epochs))))) if len(epochs) > 1 else 10**9
    end = last + interval
    bins = min(bins, -((start - end) // interval))
    edges = start + np.linspace(0, end - start, bins + 1).astype(np.int64)
    columns = np.searchsorted(edges, epochs, side="right") - 1
    columns[(columns < 0) | (columns >= bins)] = bins  # epochs that fill a day, before and after all files
    blocks, sampled = _choose(columns, bins, array)
    sums, counts = np.zeros((bins + 1, len(labels))), np.zeros((bins + 1, len(labels)))
    for number, (first, stop) in enumerate(blocks):
        if progress is not None:
            progress(number, len(blocks))
        values = np.asarray(array[first:stop])
        seen = np.isfinite(values)
        part = columns[first:stop]
        starts = np.flatnonzero(np.diff(part, prepend=-1))
        for total, addends in ((sums, np.where(seen, values, 0)), (counts, seen)):
            each = np.add.reduceat(addends, starts, axis=0, dtype=np.float64)
            np.add.at(total, part[starts], each @ members)
    sums, counts = sums[:bins], counts[:bins]
    return Heatmap(
        title=f"Mean {variable} ({array.attrs.get('units', '')}) of the satellites with each signal",
        labels=labels,
        values=np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0).T,
        start=start,
        end=end,
        last_epoch=last,
        sampled=sampled,
    )


def _epochs(array: Any) -> npt.NDArray[np.int64]:
    """Epochs as nanoseconds since 1970-01-01, whatever their unit."""
    units = str(array.attrs.get("units", ""))
    match = re.fullmatch(
        r"(nano|micro|milli|)(second|minute|hour|day)s since ([0-9-]+)[T ]?([0-9:.]*)Z?", units
    )
    if match is None:
        raise InputError(
            f"the epochs of the group are in {units!r}, which is no unit of time with a date",
            hint="choose a group that canvod-launch has written",
        )
    unit = {"nano": "ns", "micro": "us", "milli": "ms", "": match[2][0].replace("d", "D")}[match[1]]
    offsets = np.asarray(array[:]).astype(f"timedelta64[{unit}]").astype("timedelta64[ns]")
    return (np.datetime64(f"{match[3]}T{match[4] or '00:00'}", "ns") + offsets).astype(np.int64)


def _kind(sid: str) -> str:
    satellite, _, signal = sid.partition("|")
    return f"{satellite[:1]} {signal}"


def _choose(columns: npt.NDArray[np.intp], bins: int, array: Any) -> tuple[list[tuple[int, int]], bool]:
    """Choose epochs to read, in chunks until each column has enough; return whether some are left out."""
    step = array.chunks[0]
    most = max(step, BLOCK_BYTES // max(1, array.shape[1] * array.dtype.itemsize))
    read = np.zeros(bins, np.intp)
    blocks: list[tuple[int, int]] = []
    for first in range(0, len(columns), step):
        part = columns[first : first + step]
        wanted = part[part < bins]
        if not len(wanted) or read[wanted].min() >= BIN_EPOCHS:
            continue
        read += np.bincount(wanted, minlength=bins)
        stop = first + len(part)
        if blocks and blocks[-1][1] == first and stop - blocks[-1][0] <= most:
            blocks[-1] = blocks[-1][0], stop
        else:
            blocks.append((first, stop))
    return blocks, int(read.sum()) < int(np.count_nonzero(columns < bins))


def _observed(group: zarr.Group, epochs: npt.NDArray[np.int64]) -> tuple[int, int]:
    """First and last epoch of the group's files; of all epochs where it has no log book of files."""
    files: Any = group.get("files")
    if files is not None and "first_epoch" in files:
        times = [np.asarray(files[name][:], np.int64) for name in ("first_epoch", "last_epoch")]
        read = times[1] > 0
        if read.any():
            return int(times[0][read].min()), int(times[1][read].max())
    return int(epochs.min()), int(epochs.max())


def draw_heatmap(heatmap: Heatmap, *, color: bool, ascii_only: bool = False) -> Text:
    """Draw a heatmap with characters.

    Parameters
    ----------
    heatmap : Heatmap
        What to draw.
    color : bool
        Whether the terminal shows colours; else shades are drawn.
    ascii_only : bool
        Whether it shows no other characters than those of ASCII.

    Returns
    -------
    rich.text.Text
        Lines with the title, a row for each label, the time axis, and a scale of the colours.
    """
    shades = ASCII_SHADES if ascii_only else SHADES
    low, high = heatmap.limits()
    width = max(map(len, heatmap.labels))
    text = Text(f"{heatmap.title}\n", no_wrap=True)
    for label, row in zip(heatmap.labels, heatmap.values, strict=True):
        text.append(f"{label:<{width}} ")
        for value in row:
            text.append(*_cell(value, low, high, shades, color=color))
        text.append("\n")
    text.append(f"{'':<{width}} {_tick_line(heatmap)}\n{'':<{width}} {heatmap.span()}\n")
    text.append(f"{'':<{width}} {low:.0f} ")
    for step in np.linspace(low, high, 12):
        text.append(*_cell(float(step), low, high, shades, color=color))
    text.append(f" {high:.0f}")
    if heatmap.sampled:
        text.append(f"   (of each column some {BIN_EPOCHS} epochs)")
    return text


def _tick_line(heatmap: Heatmap) -> str:
    """Ticks with their labels: each tick is in the column of its time."""
    columns = heatmap.values.shape[1]
    line = ""
    for position, label in heatmap.ticks(max(1, columns // LABEL_COLUMNS - 1)):
        fits = int(position) + len(label) < columns
        line = f"{line:<{int(position)}}|{label if fits else ''}"
    return line


def _cell(value: float, low: float, high: float, shades: str, *, color: bool) -> tuple[str, str]:
    if not np.isfinite(value):
        return (" ", "") if color else (shades[0], "")
    share = float(np.clip((value - low) / (high - low), 0.0, 1.0))
    if color:
        return shades[-1], PALETTE[round(share * (len(PALETTE) - 1))]
    return shades[1 + round(share * (len(shades) - 2))], ""


def require_matplotlib() -> None:
    """Refuse to make a PNG where that cannot be, before the values for it are read.

    Raises
    ------
    DependencyError
        If matplotlib cannot be imported.
    """
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401 (used by save_png)
    except ImportError as exc:
        install = install_command("canvod-launch[plot]")
        raise DependencyError(
            f"a plot as PNG needs matplotlib, which cannot be imported ({exc})",
            hint=f"{install}, or leave out --output to have it in the terminal",
        ) from exc


def save_png(heatmap: Heatmap, path: str | os.PathLike[str]) -> Path:
    """Draw a heatmap into a PNG file, where `require_matplotlib` does not refuse.

    Parameters
    ----------
    heatmap : Heatmap
        What to draw.
    path : path
        The file; one that exists is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(11, 1.5 + 0.22 * len(heatmap.labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = heatmap.limits()
    bins = heatmap.values.shape[1]
    image = axes.imshow(
        heatmap.values,
        aspect="auto",
        interpolation="nearest",
        vmin=low,
        vmax=high,
        cmap="viridis",
        extent=(0, bins, len(heatmap.labels) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(heatmap.labels)), heatmap.labels)
    ticks = heatmap.ticks(PNG_TICKS)
    axes.set_xticks([position for position, _ in ticks], [label for _, label in ticks], fontsize=8)
    axes.set_xlabel(heatmap.span())
    axes.set_title(heatmap.title)
    figure.colorbar(image, ax=axes)
    target = Path(path)
    try:
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as exc:
        raise InputError(f"{target} cannot be written: {exc}", hint="name a file such as snr.png") from exc
    return target
