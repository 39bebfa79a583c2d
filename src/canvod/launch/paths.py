"""Paths as users name them, and questions about them that have an answer for every user.

What may not be looked at is not there: before Python 3.14 `pathlib` raises `PermissionError` for what lies in
a folder that the user may not enter.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of what was named, under that name: links stay, ``~`` is expanded.

    Only ``..`` after a link leads, as for the kernel, to the folder above the link's target.

    Parameters
    ----------
    path : path
        A path, which need not exist.

    Returns
    -------
    Path
        The absolute path.

    Raises
    ------
    InputError
        If the path is relative and there is no current folder any more.

    Examples
    --------
    >>> absolute("/data/day1/../day2/")
    PosixPath('/data/day2')
    """
    given = Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises for a user that is not known
    if not given.is_absolute():
        try:
            given = Path.cwd() / given
        except FileNotFoundError as exc:
            raise InputError(
                f"{given} is looked up from the current folder, which is not there any more",
                hint="change to a folder that is there, or name the whole path",
            ) from exc
    found = Path("/")
    for part in given.parts[1:]:
        if part != "..":
            found /= part
        elif os.path.islink(found):  # noqa: PTH114 - before Python 3.14 pathlib raises where one may not look
            found = Path(os.path.realpath(found)).parent
        else:
            found = found.parent
    return found


def require_present(path: str | os.PathLike[str]) -> os.stat_result:
    """Look at an input that a user named.

    Parameters
    ----------
    path : path
        A file or a folder.

    Returns
    -------
    os.stat_result
        What the system tells of it, or of what a link leads to.

    Raises
    ------
    InputError
        If there is none, or the path is relative and there is no current folder any more.
    OSError
        If it cannot be looked at.
    """
    given = absolute(path)
    try:
        return given.stat()
    except FileNotFoundError:
        raise InputError(
            f"{given}: there is no such file or folder",
            hint="Check the path; it is looked up on this machine, from the current folder.",
        ) from None


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is something at a path, as far as this user may see.

    Parameters
    ----------
    path : path
        The path to look at.

    Returns
    -------
    bool
        False also where it lies in a folder that this user may not enter.
    """
    return os.path.exists(path)  # noqa: PTH110 - before Python 3.14 pathlib raises where one may not look


def granted(found: os.stat_result, uid: int, groups: Collection[int]) -> int:
    """Tell which permission bits of a file hold for a user: the owner's, the group's or those of others.

    Parameters
    ----------
    found : os.stat_result
        What the system tells of the file.
    uid : int
        The user.
    groups : collection of int
        Groups of the user.

    Returns
    -------
    int
        Three bits: 4 to read, 2 to write, 1 to execute.
    """
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
    return (found.st_mode >> shift) & 0o7


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder at a path, as far as this user may see.

    Parameters
    ----------
    path : path
        The path to look at.

    Returns
    -------
    bool
        True also for a link to a folder.
    """
    return os.path.isdir(path)  # noqa: PTH112 - as in `exists`
