"""Settings: the one place that reads settings files and environment variables."""

from __future__ import annotations

from canvod.launch.config.models import (
    BuildSettings,
    IngestSettings,
    LaunchSettings,
    ProcessingSettings,
    Settings,
)
from canvod.launch.config.provenance import Origin, Provenance

__all__ = [
    "BuildSettings",
    "IngestSettings",
    "LaunchSettings",
    "Origin",
    "ProcessingSettings",
    "Provenance",
    "Settings",
]
