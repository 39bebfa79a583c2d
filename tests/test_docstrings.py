"""The check of docstrings (``scripts/check-docstrings``) tells what is missing, and nothing else."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "check-docstrings"))

PARAMETERS = "Parameters\n----------\na : int\n    One."
RETURNS = "Returns\n-------\nint\n    It."
RAISES = "Raises\n------\nValueError\n    If it is."


def function(head: str, *sections: str, body: str = "return a") -> str:
    """Write a function with a docstring of some sections."""
    text = "\n\n".join(("Do it.", *sections)).replace("\n", "\n    ")
    return f'{head}\n    """{text}\n    """\n    {body}'


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        (function("def do(a: int) -> int:", PARAMETERS, RETURNS), []),
        (function("def _do(a: int) -> int:"), []),
        (function("@property\ndef do(self) -> int:"), []),
        (function("def do(a: int) -> None:", PARAMETERS, RAISES, body="raise ValueError(a)"), []),
        (function("def do(a: int) -> int:", PARAMETERS), ["Returns or Yields is missing: int"]),
        (
            function("def do(a: int, *b: str) -> int:", PARAMETERS, RETURNS),
            ["has parameters ['a', '*b'], described are ['a']"],
        ),
        (function("def do(a: int) -> int:", PARAMETERS[:-9], RETURNS), ["a has no type or no meaning"]),
        (
            function("def do(a: int) -> None:", PARAMETERS, body="raise errors.BadError(a)"),
            ["Raises is missing: BadError"],
        ),
        ('class Size:\n    """It."""\n    _x: int\n    x: int\n    """One."""', []),
        (
            'class Size:\n    """It."""\n    x: int\n    y: int\n    """One."""',
            ["the field x is not described"],
        ),
        (
            'class Size:\n    """It."""\n    def __init__(self, x: int) -> None: ...',
            ["has parameters ['x'], described are []"],
        ),
    ],
)
def test_what_is_missing_is_told(source: str, problems: list[str]) -> None:
    """Of functions and of classes; what is not public, and properties, may be short."""
    assert [problem for _, problem in CHECK["public"](ast.parse(source).body)] == problems
