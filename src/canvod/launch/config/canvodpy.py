"""What of canVODpy's settings is ours: three sections, and of ``processing`` the resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from canvod.launch.config.catalogue import SECTIONS, nearest, sections
from canvod.launch.config.redact import shown
from canvod.launch.config.settings import Origin

if TYPE_CHECKING:
    from canvod.launch.config.problems import Findings

RESOURCES = sections()["processing"]
"""Our fields of the section ``processing``, in which canVODpy has others."""

_NEIGHBOUR = "preprocessing"
"""A section of canVODpy that only looks like ours misspelt."""


def our_sections(data: Mapping[str, Any], origins: dict[str, Origin], findings: Findings) -> dict[str, Any]:
    """Reduce settings to our sections; what looks misplaced or misspelt is recorded.

    Parameters
    ----------
    data : Mapping of str to value
        Sections by name, of canVODpy's sections the name at least.
    origins : dict of str to Origin
        Where each part was given, by dotted name; resources of ``processing.params`` are added as those of
        ``processing``.
    findings : Findings
        Takes the problems and the notes.

    Returns
    -------
    dict
        Our sections that have fields.
    """
    ours: dict[str, Any] = {}
    for key, value in data.items():
        origin = origins.get(key, Origin("value"))
        if key in RESOURCES:
            reason = "is outside of the section processing and would have no effect"
            findings.add(reason, "indent it below processing:", key, origin=origin)
        elif key not in SECTIONS:
            near = nearest(key, SECTIONS, cutoff=0.75)
            if near is not None and key != _NEIGHBOUR:
                findings.notes.append(f"{origin.prefix}section {key} is not read; did you mean {near}?")
        elif isinstance(value, Mapping):
            ours[key] = _resources(value, origins, findings) if key == "processing" else value
        elif value is not None:
            reason = "is not a section: no fields are indented below it"
            remedy = f"indent the fields below {key}:, or remove the line"
            findings.add(reason, remedy, key, shown(key, value), origin=origin)
    return ours


def _resources(section: Mapping[str, Any], origins: dict[str, Origin], findings: Findings) -> dict[str, Any]:
    """Take the resources from processing, or from processing.params where canVODpy 1.0 keeps them."""
    given = {key: value for key, value in section.items() if key in RESOURCES and value is not None}
    params = section.get("params")
    lifted = {
        key: value
        for key, value in (params.items() if isinstance(params, Mapping) else ())
        if key in RESOURCES and value is not None and key not in given
    }
    for name, origin in list(origins.items()):
        field = name.removeprefix("processing.params.")
        if field != name and field.partition(".")[0] in lifted:
            origins[f"processing.{field}"] = origin
    if any(value != "auto" for value in lifted.values()):
        place = origins.get("processing.params", Origin()).prefix
        findings.notes.append(
            f"{place}{', '.join(lifted)} taken from processing.params, where canVODpy 1.0 keeps them; "
            "fields directly in processing would go before them"
        )
    for key in [key for key in section if key not in RESOURCES]:
        near = nearest(key, RESOURCES, cutoff=0.85)
        if near is not None and near not in given | lifted:
            place = origins.get(f"processing.{key}", Origin()).prefix
            findings.notes.append(f"{place}processing.{key} is not read; did you mean {near}?")
    return lifted | given
