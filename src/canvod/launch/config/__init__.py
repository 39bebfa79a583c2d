"""Settings: the only reader of settings files, and of environment variables that are settings.

:func:`load_settings` puts pydantic-settings' sources one over the other (a command's options, environment
variables, a YAML file or values given in Python), and validates the whole as :class:`Settings`: frozen values
that know where each of them was given. What is wrong is told in one :class:`SettingsError`, each problem with
its file and line, field, value, what is allowed and a remedy.

===================== =========================================================================
module                holds
===================== =========================================================================
`field_types`         types of fields, and the words that explain them
`sections`            ``processing``, ``launch``, ``launch.build``, ``ingest``
`settings`            all sections together, where each value came from, and the JSON Schema
`catalogue`           fields by dotted name
`canvodpy`            which parts of canVODpy's file are ours
`yaml_file`           a YAML file, and the line of each value
`environment_source`  the source of environment variables
`load`                the order of the sources
`problems`            what is wrong, in words
`redact`              values without secrets
===================== =========================================================================

Below it: :mod:`canvod.launch.paths`, :mod:`canvod.launch.units`, :mod:`canvod.launch.errors`. Above it:
everything from :mod:`canvod.launch.host` upwards, which takes the settings from here.
"""

from __future__ import annotations

from canvod.launch.config.catalogue import field_names
from canvod.launch.config.load import SettingsLike, load_settings
from canvod.launch.config.problems import Problem, SettingsError
from canvod.launch.config.redact import shown, without_secrets
from canvod.launch.config.sections import BuildSettings, IngestSettings, LaunchSettings, ProcessingSettings
from canvod.launch.config.settings import Origin, Provenance, Settings, json_schema

__all__ = [
    "BuildSettings",
    "IngestSettings",
    "LaunchSettings",
    "Origin",
    "Problem",
    "ProcessingSettings",
    "Provenance",
    "Settings",
    "SettingsError",
    "SettingsLike",
    "field_names",
    "json_schema",
    "load_settings",
    "shown",
    "without_secrets",
]
