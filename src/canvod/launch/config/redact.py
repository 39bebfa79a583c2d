"""Show a setting to people without showing a secret in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

HIDDEN = "***"
"""What is shown in place of a secret."""

_SECRETS = "launch.environment"
_PASSWORD_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def hidden(name: str, value: Any) -> Any:
    """Replace the secrets in a setting.

    Secrets are user names and passwords in addresses, and the values of ``launch.environment``: nobody can
    tell which of them are secret.

    Parameters
    ----------
    name : str
        Dotted field, such as ``launch.build.index_url``; empty for all settings.
    value : Any
        Its value.

    Returns
    -------
    Any
        The value, with ``***`` in place of each secret.
    """
    if isinstance(value, Mapping):
        return {key: hidden(f"{name}.{key}".lstrip("."), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(hidden(name, item) for item in value)
    if name.startswith(_SECRETS) and value is not None:
        return HIDDEN
    return without_password(value) if isinstance(value, str) else value


def shown(name: str, value: object) -> str:
    """Text of a setting as a YAML file would have it, secrets hidden as by :func:`hidden`.

    Parameters
    ----------
    name : str
        Dotted field, such as ``launch.build.index_url``.
    value : Any
        Its value.

    Returns
    -------
    str
        One line of text.

    Examples
    --------
    >>> shown("launch.build.index_url", "https://me:word@pypi.example/simple")
    'https://***@pypi.example/simple'
    >>> shown("processing.cpu_affinity", (0, 1))
    '[0, 1]'
    """
    return _text(hidden(name, value))


def without_password(text: str) -> str:
    """Hide user names and passwords in the addresses of a text.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text, with ``***`` in place of ``user:password``.

    Examples
    --------
    >>> without_password("https://me:word@pypi.example/simple")
    'https://***@pypi.example/simple'
    """
    return _PASSWORD_IN_ADDRESS.sub(HIDDEN, text)


def without_secrets(settings: BaseModel) -> dict[str, Any]:
    """All values of the settings as JSON can hold them, secrets hidden as by :func:`hidden`.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    dict
        Sections with their fields.
    """
    return dict(hidden("", settings.model_dump(mode="json")))


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str | PurePath):
        text = str(value)
        return text if text and text.isprintable() and text == text.strip() else json.dumps(text)
    return str(value)
