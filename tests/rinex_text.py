"""RINEX files of a few lines, as text: for what writers of whole files do not write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Codes = Sequence[str] | Mapping[str, Sequence[str]]


def record(content: str, label: str) -> str:
    """Return a header record."""
    return f"{content:60}{label:20}"


FIRST = "  2024     1     1     0     0    0.0000000     GPS"
END = record("", "END OF HEADER")


def types3(codes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the records of observation codes of RINEX 3, 13 codes a line."""
    lines = []
    for system, names in codes.items():
        for start in range(0, len(names), 13):
            head = f"{system}  {len(names):3d}" if start == 0 else " " * 6
            lines.append(
                record(head + "".join(f" {n}" for n in names[start : start + 13]), "SYS / # / OBS TYPES")
            )
    return lines


def types2(codes: Sequence[str]) -> list[str]:
    """Return the records of observation codes of RINEX 2, 9 codes a line."""
    lines = []
    for start in range(0, len(codes), 9):
        head = f"{len(codes):6d}" if start == 0 else " " * 6
        lines.append(
            record(head + "".join(f"{n:>6}" for n in codes[start : start + 9]), "# / TYPES OF OBSERV")
        )
    return lines


def header(
    codes: Codes = ("S1C", "S2W"),
    *,
    version: float = 3.04,
    system: str = "M",
    first: str | None = FIRST,
    extra: Iterable[str] = (),
) -> list[str]:
    """Return the lines of a header; codes without a system are those of GPS, or of all in RINEX 2."""
    kind = "OBSERVATION DATA"
    types = (
        types2(list(codes))
        if version < 3
        else types3(codes if isinstance(codes, Mapping) else {"G": list(codes)})
    )
    return [
        record(f"{version:9.2f}{'':11}{kind:20}{system}", "RINEX VERSION / TYPE"),
        record("TEST", "MARKER NAME"),
        *types,
        *([] if first is None else [record(first, "TIME OF FIRST OBS")]),
        *extra,
        END,
    ]


def number(value: float | str | None) -> str:
    """Return one field: F14.3 and two blanks; text is taken as it is, None is blank."""
    if value is None:
        return " " * 16
    return f"{value:>14}  " if isinstance(value, str) else f"{value:14.3f}  "


def time3(second: float, *, flag: int = 0, count: int = 1, minute: str = "2024 01 01 00 00") -> str:
    """Return an epoch line of RINEX 3."""
    whole, rest = divmod(second, 60)
    return f"> {minute[:-2]}{int(minute[-2:]) + int(whole):02d}{rest:11.7f}  {flag}{count:3d}"


def epoch3(
    second: float, satellites: Mapping[str, Sequence[float | str | None]], *, flag: int = 0
) -> list[str]:
    """Return an epoch record of RINEX 3, of values by satellite."""
    return [
        time3(second, flag=flag, count=len(satellites)),
        *(sv + "".join(map(number, values)).rstrip() for sv, values in satellites.items()),
    ]


def time2(second: float, names: Sequence[str], *, flag: int = 0) -> list[str]:
    """Return an epoch line of RINEX 2 with its continuations, 12 satellites a line."""
    whole, rest = divmod(second, 60)
    head = f" 24  1  1  0 {int(whole):2d}{rest:11.7f}  {flag}{len(names):3d}"
    rows = [names[start : start + 12] for start in range(0, len(names), 12)] or [[]]
    return [head + "".join(rows[0]), *(" " * 32 + "".join(row) for row in rows[1:])]


def epoch2(
    second: float, satellites: Mapping[str, Sequence[float | str | None]], *, flag: int = 0
) -> list[str]:
    """Return an epoch record of RINEX 2, of values by satellite, 5 a line."""
    lines = time2(second, list(satellites), flag=flag)
    for values in satellites.values():
        fields = list(map(number, values))
        lines += ["".join(fields[start : start + 5]).rstrip() for start in range(0, len(fields), 5)]
    return lines


def epoch(version: float, second: float, satellites: Mapping[str, Sequence[float | str | None]]) -> list[str]:
    """Return an epoch record of a version."""
    return (epoch2 if version < 3 else epoch3)(second, satellites)


def event(version: float, lines: Sequence[str], *, flag: int = 4, second: float | None = None) -> list[str]:
    """Return an event with the lines that it announces; its time is blank without a second."""
    if version < 3:
        head = " " * 28 + f"{flag}{len(lines):3d}" if second is None else time2(second, [], flag=flag)[0][:29]
        return [head if second is None else f"{head}{len(lines):3d}", *lines]
    if second is None:
        return [">" + " " * 30 + f"{flag}{len(lines):3d}", *lines]
    return [time3(second, flag=flag, count=len(lines)), *lines]


def text(*parts: Iterable[str]) -> bytes:
    """Return lines as the bytes of a file."""
    return "".join(f"{line}\n" for part in parts for line in part).encode("latin-1")
