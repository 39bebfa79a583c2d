"""Files with a bit of everything that RINEX allows, and damage done to them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from canvod.launch.simulate import RinexHeader, render_rinex
from rinex_text import END, epoch2, epoch3, event, header, record, text, time3, types2, types3

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

CODES = {"G": ("C1C", "L1C", "D1C", "S1C", "S2W"), "R": ("S1C", "L1C"), "C": ("C2I", "S2I", "S9X")}
TYPES = ("C1", "L1", "D1", "S1", "S2", "P2", "L2")
COMMENT = record("left by a splice", "COMMENT")


def _satellites(step: int, count: int = 4) -> dict[str, list[float | str | None]]:
    rows: dict[str, list[float | str | None]] = {
        "G01": [2.1e7 + step, 1.1e8 - step, -1234.5, 40 + step / 4, 31.25],
        "G12": [2.2e7, ".300", "-.353" if step % 3 == 2 else 44, 44, None],
        "R03": [35.5, 9.9e7 + step / 8],
        "C30": [3.8e7, "45.5" if step % 2 else 45.25, 30],
        "G 7": [0, 0, 0, 28.5, 0],
        "C11": [None, 50],
    }
    return rows | {f"R{n:02d}": [30 + n] for n in range(10, 10 + count)}


def _reversed(
    satellites: dict[str, list[float | str | None]], system: str
) -> dict[str, list[float | str | None]]:
    return {sv: values[::-1] if sv[0] in system else values for sv, values in satellites.items()}


@cache
def rinex3() -> bytes:
    """RINEX 3: usual records, events, changed codes, comments, a joined file, records in odd forms."""
    codes = types3({"G": CODES["G"][::-1]})
    steps = [epoch3(step * 5.0, _satellites(step)) for step in range(5)]
    steps += [epoch3(step * 5.0, _reversed(_satellites(step), "G")) for step in range(5, 8)]
    return text(
        header(CODES, extra=[record("C  10   1 S2I", "SYS / SCALE FACTOR")]),
        *steps[:5],
        event(3, [COMMENT, *codes]),
        *steps[5:7],
        [COMMENT],
        event(3, [], flag=2, second=36),
        epoch3(33, {"G01": [1, 2]}, flag=6),
        [time3(37).replace("01 01", " 1  1"), "G01        31.250"],
        *steps[7:],
        header({"G": ("S1C", "S2W"), "E": ("S5Q",)}, version=3.05),
        *(epoch3(step * 5.0, {"G01": [40, 30], "E05": [50]}) for step in range(8, 14)),
    )


@cache
def rinex2() -> bytes:
    """RINEX 2: usual records, more than 12 satellites, events, changed codes, comments, a joined file."""

    def satellites(step: int, count: int) -> dict[str, list[float | str | None]]:
        usual = [2.1e7 + step, 1.1e8 - step, -1234.5, 40 + step / 4, 31.25, ".300", None]
        return {
            f"{'GRE '[n % 4]}{n:2d}": [*usual[: 4 + n % 4], *[None] * (3 - n % 4)] for n in range(1, count)
        }

    steps = [epoch2(step * 5.0, satellites(step, 3 + 6 * (step % 3))) for step in range(5)]
    steps += [
        epoch2(step * 5.0, _reversed(satellites(step, 3 + 6 * (step % 3)), "GRE ")) for step in range(5, 8)
    ]
    return text(
        header(TYPES, version=2.11, extra=[record(f"{10:6d}{1:6d}{'S2':>6}", "OBS SCALE FACTOR")]),
        *steps[:5],
        event(2, [COMMENT, *types2(TYPES[::-1])]),
        *steps[5:7],
        [COMMENT],
        event(2, [], flag=2, second=36),
        epoch2(33, satellites(1, 3), flag=6),
        *steps[7:],
        header(("S1", "S2"), version=2.12),
        *(epoch2(step * 5.0, {"G01": [40, 30], "E05": [50, None]}) for step in range(8, 14)),
    )


@cache
def simulated() -> bytes:
    """RINEX 3 as the simulator writes it."""
    times = np.datetime64("2024-01-01T00:00:00", "ns") + np.arange(12) * np.timedelta64(5, "s")
    rng = np.random.default_rng(1)
    names = [f"{system}{n:02d}" for system in "GREC" for n in range(1, 4)]
    kinds = {"C1C": 2e7, "L1C": 1e8, "D1C": -2e3, "S1C": 45.0}
    values = {
        sv: {
            kind: np.where(rng.random(12) < 0.2, np.nan, scale * rng.uniform(0.9, 1.1, 12))
            for kind, scale in (kinds if sv[0] != "C" else {"S2I": 40.0, "C2I": 3e7}).items()
        }
        for sv in names
    }
    return render_rinex(RinexHeader(), times, values)


BASES = {"rinex3": rinex3, "rinex2": rinex2, "simulated": simulated}

_PIECES = (
    *(bytes([byte]) for byte in b" 09-+.>eGX\n\r\0\x1a\t\x0c\x85\xff"),
    *(b"\r\n", b"\n\n", b"G01", b"  1", b"COMMENT", b"99999", b"-.353", b"nan", b"1e5", b"> ", END.encode()),
    text([time3(12), "G01"]),
    text(epoch2(12, {"G01": []})),
    text([COMMENT]),
    text(types3({"G": ["S1C", "S2W"]})),
    text(event(3, types3({"G": ["S2W", "S1C"]}))),
    text(event(2, types2(["S2", "S1"]))),
)


@st.composite
def mutated(draw, data: bytes) -> bytes:
    """Draw a file with some damage; most of it within the records, where it is not refused at once."""
    start = draw(st.sampled_from([data.index(END.encode()) + 21] * 9 + [0]))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "delete", "insert", "overwrite", "lines", "column", "cut"]))
        at = draw(_within(start, len(data)))
        piece = draw(st.sampled_from(_PIECES))
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "delete":
            data = data[:at] + data[at + draw(st.integers(1, 20)) :]
        elif kind == "insert":
            data = data[:at] + piece + data[at:]
        elif kind == "overwrite":
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == "lines":
            data = draw(_lines(data, start))
        elif kind == "column":
            data = draw(_column(data, start, piece))
        elif draw(st.integers(0, 4)) == 0:
            data = data[:at]
        start = min(start, len(data))
    if draw(st.integers(0, 9)) == 0:
        data = data.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r"])))
    return data + draw(st.sampled_from([b"", b"", b"", b"\x1a", b"\0" * 5, b"\n\n", b"\x1a\r\n"]))


def _within(start: int, stop: int) -> SearchStrategy[int]:
    return st.integers(start, max(start, stop))


@st.composite
def _lines(draw, data: bytes, start: int) -> bytes:
    """Delete, double, move or swap whole lines."""
    head, lines = data[:start], data[start:].splitlines(keepends=True)
    if len(lines) < 2:
        return data
    one, other = draw(_within(0, len(lines) - 1)), draw(_within(0, len(lines) - 1))
    count = draw(st.integers(1, 3))
    match draw(st.sampled_from(["delete", "double", "copy", "swap"])):
        case "delete":
            del lines[one : one + count]
        case "double":
            lines[one:one] = lines[one : one + count]
        case "copy":
            lines[other:other] = lines[one : one + count]
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    return head + b"".join(lines)


@st.composite
def _column(draw, data: bytes, start: int, piece: bytes) -> bytes:
    """Overwrite characters of the first columns of a line, or at its end: epochs, names, counts, labels."""
    ends = [i for i in range(start, len(data)) if data[i] == 10]
    if not ends:
        return data
    end = draw(st.sampled_from(ends))
    first = data.rfind(b"\n", 0, end) + 1
    at = draw(_within(first, min(end, first + 36)) | st.just(end) | _within(max(first, end - 20), end))
    return data[:at] + piece + data[at + draw(st.sampled_from([0, 1, len(piece)])) :]
