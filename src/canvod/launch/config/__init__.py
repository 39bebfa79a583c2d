"""Settings: the one place that reads settings files and environment variables."""

from __future__ import annotations

from canvod.launch.config.catalogue import field_names
from canvod.launch.config.load import Source, load_settings
from canvod.launch.config.models import (
    BuildSettings,
    IngestSettings,
    LaunchSettings,
    ProcessingSettings,
)
from canvod.launch.config.problems import Problem, SettingsError
from canvod.launch.config.provenance import Origin, Provenance
from canvod.launch.config.redact import shown, without_secrets
from canvod.launch.config.schema import json_schema
from canvod.launch.config.settings import Settings

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
    "Source",
    "field_names",
    "json_schema",
    "load_settings",
    "shown",
    "without_secrets",
]
