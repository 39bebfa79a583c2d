"""How long property tests search: ``HYPOTHESIS_PROFILE=default|ci|deep``.

``default`` and ``deep`` try other examples each time. ``ci`` tries the same ones as long as the code is the
same: a change is judged by what it does, not by what another run happened to find, which ``deep`` is for.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Machines of labs and of CI are shared: a slow example says nothing about the code.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("default", settings(max_examples=100, **_COMMON))  # type: ignore[arg-type]
settings.register_profile("ci", settings(max_examples=200, derandomize=True, **_COMMON))  # type: ignore[arg-type]
settings.register_profile("deep", settings(max_examples=5000, print_blob=True, **_COMMON))  # type: ignore[arg-type]

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
settings.load_profile(PROFILE)

EXAMPLES = settings.default.max_examples  # type: ignore[union-attr]
"""How many examples a test tries; one that takes long divides it."""
