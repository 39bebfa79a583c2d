"""Dask's settings while a cluster of ours is used: Dask's defaults, whatever files and environment say.

Whoever imports Dask has it read settings from ``~/.config/dask`` and other folders, and from ``DASK_…``
variables. Made for another cluster, they would change what ours do, or keep them from starting. So the
section ``distributed`` is Dask's own while a cluster is used; the certificates for a scheduler that somebody
else runs are the one thing that is taken from the user's. Workers read no settings of the user's at all: what
they should have is in ``launch.environment``.
"""

from __future__ import annotations

import threading
import traceback
from typing import Any, Final

from canvod.launch.errors import ConfigError

SECTION: Final = "distributed"

CERTIFICATES: Final = ("require-encryption", "tls")
"""Settings of ``distributed.comm`` that hold for a scheduler that somebody else runs."""

_lock = threading.Lock()
_users = 0
_theirs: Any = None


class DaskDefaults:
    """Dask's defaults for as long as one of these is in use; the user's own settings come back after it.

    Parameters
    ----------
    certificates : bool, default False
        Keep the user's settings of certificates.

    Raises
    ------
    ConfigError
        If Dask cannot be imported with the user's settings; the message names the file.
    """

    def __init__(self, *, certificates: bool = False) -> None:
        global _theirs, _users  # noqa: PLW0603 - Dask has one set of settings for the process
        config = import_settings()
        with _lock:
            if not _users:
                _theirs = config.config.get(SECTION)
                # Where Dask's defaults are not known yet, they come with the import of `distributed`.
                config.config[SECTION] = config.merge(*(part.get(SECTION, {}) for part in config.defaults))
            _users += 1
            if certificates:
                config.update(config.config, {SECTION: {"comm": _certificates(_theirs)}})
        self._in_use = True

    def end(self) -> None:
        """Give the user's settings back, if nobody else uses Dask's; calling it again does nothing."""
        global _theirs, _users  # noqa: PLW0603
        with _lock:
            if not self._in_use:
                return
            self._in_use = False
            _users -= 1
            if not _users:
                config = import_settings()
                before, _theirs = _theirs, None
                config.config[SECTION] = config.merge(
                    *(part.get(SECTION, {}) for part in config.defaults),
                    *([before] if isinstance(before, dict) else []),
                )


def _certificates(section: Any) -> dict[str, Any]:
    comm = section.get("comm") if isinstance(section, dict) else None
    return _given({name: (comm or {}).get(name) for name in CERTIFICATES})


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not set."""
    given = {name: _given(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return {name: value for name, value in given.items() if value not in (None, {})}


def refusal(error: BaseException) -> ConfigError | None:
    """Tell whether an error is Dask's about the user's settings, which it reads when it is imported.

    Parameters
    ----------
    error : BaseException
        What an import has raised.

    Returns
    -------
    ConfigError or None
        The same as an error of ours.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not any(frame.filename.endswith("/dask/config.py") and frame.name == "<module>" for frame in frames):
        return None
    reason = " ".join(str(error).split()) or type(error).__name__
    return ConfigError(
        f"Dask cannot be imported with the settings that it finds: {reason}",
        hint="correct that file, or move it away: Dask reads /etc/dask, ~/.config/dask, DASK_CONFIG and "
        "variables that begin with DASK_; canvod-launch needs none of them",
    )


def import_settings() -> Any:
    """Import ``dask.config``, which reads the user's settings.

    Returns
    -------
    module
        ``dask.config``.

    Raises
    ------
    ConfigError
        If the settings keep it from being imported; a file that is no YAML does.
    """
    try:
        import dask.config
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise refused from error
    return dask.config
