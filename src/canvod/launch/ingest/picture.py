"""A picture of a group: signal strength over time, for each kind of signal, on a terminal or as PNG."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.text import Text

from canvod.launch.errors import DependencyError, InputError
from canvod.launch.ingest.report import format_epoch

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import xarray as xr

BIN_EPOCHS = 2000
"""At most so many successive epochs are read for one column, so that a picture of a year takes seconds."""

SHADES = "·░▒▓█"
"""Without colours: none, weak … strong."""

PALETTE = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")
"""Six colours of matplotlib's viridis, from weak to strong."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Mean of a variable for each kind of signal in bins of time.

    Attributes
    ----------
    title : str
        What is shown, with its unit.
    labels : tuple of str
        Kinds of signals, ``G L1|C``.
    values : numpy.ndarray
        Shape (n_labels, n_bins), float64; NaN where nothing was observed.
    first_epoch, last_epoch : int
        Nanoseconds since 1970-01-01.
    sampled : bool
        True where only part of the epochs was read.
    """

    title: str
    labels: tuple[str, ...]
    values: npt.NDArray[np.float64]
    first_epoch: int
    last_epoch: int
    sampled: bool

    def limits(self) -> tuple[float, float]:
        """Range of the colours: the 2nd and the 98th percentile of the values."""
        seen = self.values[np.isfinite(self.values)]
        if not len(seen):
            return 0.0, 1.0
        low, high = (float(limit) for limit in np.percentile(seen, [2, 98]))
        return low, high if high > low else low + 1.0


def make_picture(dataset: xr.Dataset, variable: str = "SNR", *, bins: int = 72) -> Picture:
    """Average a variable over the satellites of each kind of signal, in bins of epochs.

    Parameters
    ----------
    dataset : xarray.Dataset
        A group, as `canvod.launch.open_group` gives it.
    variable : str
        What to show.
    bins : int
        Columns of the picture; fewer where there are fewer epochs.

    Raises
    ------
    InputError
        If the group does not hold the variable.
    """
    if variable not in dataset:
        raise InputError(
            f"the group holds no {variable}; it holds {', '.join(map(str, dataset.data_vars))}",
            hint="choose one of these with --variable",
        )
    array = dataset[variable]
    kinds = [_kind(str(sid)) for sid in dataset.sid.values]
    labels = tuple(sorted(set(kinds)))
    members = [np.array([kind == label for kind in kinds]) for label in labels]
    edges = np.unique(np.linspace(0, array.sizes["epoch"], bins + 1).astype(int))
    values = np.full((len(labels), len(edges) - 1), np.nan)
    for column, (start, stop) in enumerate(pairwise(edges)):
        block = array[start : min(stop, start + BIN_EPOCHS)].to_numpy()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # the mean of nothing is NaN, which is what is meant
            values[:, column] = [np.nanmean(block[:, member], dtype=np.float64) for member in members]
    epoch = dataset.epoch.values.astype("datetime64[ns]").astype(np.int64)
    return Picture(
        title=f"Mean {variable} ({array.attrs.get('units', '')}) of the satellites with each signal",
        labels=labels,
        values=values,
        first_epoch=int(epoch[0]),
        last_epoch=int(epoch[-1]),
        sampled=bool(np.diff(edges).max() > BIN_EPOCHS),
    )


def _kind(sid: str) -> str:
    satellite, _, signal = sid.partition("|")
    return f"{satellite[:1]} {signal}"


def render_picture(picture: Picture, *, color: bool) -> Text:
    """Draw a picture with characters.

    Parameters
    ----------
    picture : Picture
        What to draw.
    color : bool
        Whether the terminal shows colours; else shades are drawn.
    """
    low, high = picture.limits()
    width = max(map(len, picture.labels))
    text = Text(f"{picture.title}\n", no_wrap=True)
    for label, row in zip(picture.labels, picture.values, strict=True):
        text.append(f"{label:<{width}} ")
        for value in row:
            text.append(*_cell(value, low, high, color=color))
        text.append("\n")
    first, last = format_epoch(picture.first_epoch), format_epoch(picture.last_epoch)
    gap = max(1, picture.values.shape[1] - len(first) - len(last))
    text.append(f"{'':<{width}} {first}{'':{gap}}{last}\n{'':<{width}} {low:.0f} ")
    for step in np.linspace(low, high, 12):
        text.append(*_cell(float(step), low, high, color=color))
    text.append(f" {high:.0f}")
    if picture.sampled:
        text.append(f"   (the first {BIN_EPOCHS} epochs of each column)")
    return text


def _cell(value: float, low: float, high: float, *, color: bool) -> tuple[str, str]:
    if not np.isfinite(value):
        return (" ", "") if color else (SHADES[0], "")
    share = float(np.clip((value - low) / (high - low), 0.0, 1.0))
    if color:
        return "█", PALETTE[round(share * (len(PALETTE) - 1))]
    return SHADES[1 + round(share * (len(SHADES) - 2))], ""


def save_png(picture: Picture, path: str | os.PathLike[str]) -> Path:
    """Draw a picture into a PNG file.

    Raises
    ------
    DependencyError
        If matplotlib is not installed.
    InputError
        If the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise DependencyError(
            "a picture as PNG needs matplotlib, which is not installed",
            hint="pip install 'canvod-launch[plot]', or leave out --output to have it in the terminal",
        ) from exc
    figure: Any = Figure(figsize=(11, 1.5 + 0.22 * len(picture.labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = picture.limits()
    image = axes.imshow(
        picture.values, aspect="auto", interpolation="nearest", vmin=low, vmax=high, cmap="viridis"
    )
    axes.set_yticks(range(len(picture.labels)), picture.labels)
    ticks = np.linspace(0, picture.values.shape[1] - 1, min(6, picture.values.shape[1]))
    axes.set_xticks(ticks, _times(picture, ticks), fontsize=8)
    axes.set_xlabel("GPS time")
    axes.set_title(picture.title)
    figure.colorbar(image, ax=axes)
    target = Path(path)
    try:
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as exc:
        raise InputError(f"{target} cannot be written: {exc}", hint="name a file such as snr.png") from exc
    return target


def _times(picture: Picture, ticks: Sequence[float] | npt.NDArray[np.float64]) -> list[str]:
    last = max(1, picture.values.shape[1] - 1)
    span = picture.last_epoch - picture.first_epoch
    return [
        format_epoch(picture.first_epoch + round(tick / last * span / 1e9) * 10**9).replace("T", "\n")
        for tick in ticks
    ]
