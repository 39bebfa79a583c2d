"""How long property tests search: ``HYPOTHESIS_PROFILE=default|ci``, by default ``ci`` where ``CI`` is set.

Importing this module loads the profile, so a test module with properties imports it, and so may conftest.py.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Machines of labs and of CI are shared: a slow example says nothing about the code.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("default", settings(max_examples=100, **_COMMON))  # type: ignore[arg-type]
settings.register_profile("ci", settings(max_examples=200, print_blob=True, **_COMMON))  # type: ignore[arg-type]

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
settings.load_profile(PROFILE)
