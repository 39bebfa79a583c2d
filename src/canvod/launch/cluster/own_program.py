"""A new program that runs one of our modules, and finds all modules that this program finds."""

from __future__ import annotations

import json
import multiprocessing.process
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.plan.container_plans import PROCESS_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping


def start_program(
    module: str, options: Mapping[str, object], search_path_file: Path, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the function ``main`` of a module as a program in a session of its own.

    Parameters
    ----------
    module : str
        Its dotted name.
    options : mapping of str to object
        Command-line options by their names, without dashes.
    search_path_file : pathlib.Path
        Is written: where the program finds its modules. One argument would hold 128 KiB at most.
    variables : mapping of str to str
        Environment variables, beside this program's.

    Returns
    -------
    subprocess.Popen
        The program. What it writes goes to this program's standard error: it must not mix with its output.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    here = multiprocessing.process.ORIGINAL_DIR  # type: ignore[attr-defined]
    search_path_file.write_text(json.dumps([entry or here for entry in sys.path if entry or here]))
    code = (
        f"import json, sys; sys.path[:] = json.load(open({str(search_path_file)!r})); "
        f"from {module} import main; sys.exit(main())"
    )
    output = _standard_error()
    return subprocess.Popen(
        # With -P it takes nothing from the current folder.
        [sys.executable, "-P", "-c", code, *(f"--{key}={value}" for key, value in options.items())],
        env=_environment(variables),
        cwd=_current_folder(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Give this program's environment, without what Dask would take as settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    # What a task prints is there at once, as in the containers.
    return PROCESS_VARIABLES | {"PYTHONUNBUFFERED": "1"} | own | dict(variables)


def _standard_error() -> int:
    """Give the descriptor of standard error.

    Where this program was started without one, descriptor 2 is whatever it has opened since.
    """
    if sys.__stderr__ is None:
        return subprocess.DEVNULL
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "/"
