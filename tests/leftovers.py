"""Names and times of the tests that look for what a cluster has left behind."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import docker

SEED = int(os.environ.get("CANVOD_CHAOS_SEED", "20250101"))
"""Where random choices come from, so that a failure can be repeated."""

RUN = secrets.token_hex(2)
"""Part of the names of this run's clusters: a run that was cut short may have left some of the same kind."""

GRACE_S = 10.0
"""`launch.lease_grace_s`, which no test of sudden ends changes."""

GONE_WITHIN_S = GRACE_S + 20
"""A launcher that was killed, and its watchdog: how long until nothing of the cluster is left."""


def volumes(client: docker.DockerClient) -> set[str]:
    """Names of all volumes of the engine."""
    return {volume["Name"] for volume in client.api.volumes()["Volumes"] or []}
