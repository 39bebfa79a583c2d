"""Read a YAML settings file so that every value still knows its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from canvod.launch.config.catalogue import SECTIONS, names_in, nearest, takes_number
from canvod.launch.config.problems import Problem
from canvod.launch.config.provenance import Origin
from canvod.launch.config.redact import shown, without_password
from canvod.launch.units import MIB, format_bytes

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 4 * MIB
"""Largest file that is taken for settings; a mistaken data file is refused before it is parsed."""

_DEEPEST = 5
_SHARED = ("processing", "processing.params")
_OURS_IN_SHARED = {*names_in("processing"), "params"}
_OUR_TAGS = "tag:yaml.org,2002:"
_SURPRISING_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


@dataclass
class Document:
    """Settings as they were given, before any value is validated."""

    data: dict[str, Any] = field(default_factory=dict)
    """Sections by name; of foreign sections only the name, with None."""
    origins: dict[str, Origin] = field(default_factory=dict)
    """Where each part was given, by dotted name."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: str | None = None
    readable: bool = True
    """False where there is nothing to validate, because the file could not be read at all."""


def read_document(path: Path, name: str | None = None) -> Document:
    """Read a settings file; what is wrong with it is recorded, not raised.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        What messages call it; the path itself where None.

    Returns
    -------
    Document
        Sections ``processing``, ``launch`` and ``ingest`` as plain values, and the lines they stand in.
    """
    return _Reader(path, str(path) if name is None else name).read()


class _Reader:
    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name if name.isprintable() else repr(name)
        self.document = Document(source=self.name)
        self.constructor = yaml.SafeLoader("")

    def read(self) -> Document:
        text = self._text()
        if text is None:
            self.document.readable = False
            return self.document
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                self._sections(root)
            else:
                self.document.notes.append(f"{self.name} is empty: the defaults are used")
        except yaml.YAMLError as exc:
            self._unreadable(_syntax_problem(exc, text, self.name))
        except RecursionError:
            self._unreadable(
                Problem(
                    "the file is nested too deeply",
                    "remove the brackets or anchors that nest without an end",
                    origin=Origin("file", self.name, file=self.name),
                )
            )
        return self.document

    def _unreadable(self, problem: Problem) -> None:
        self.document.readable = False
        self.document.problems.append(problem)

    def _text(self) -> str | None:
        remedy = "name another file with --config, or start from the project's config/processing.yaml"
        try:
            with self.path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            near = nearest(self.path.name, _yaml_files(self.path.parent))
            meant = f"did you mean {self.path.parent / near}? Else " if near else ""
            reason, remedy = "there is no such file", meant + remedy
        except IsADirectoryError:
            inside = _yaml_files(self.path)
            reason = "it is a folder, not a file"
            remedy = f"did you mean {self.path / inside[0]}?" if inside else remedy
        except PermissionError:
            reason, remedy = "this user may not read it", f"chmod u+r {self.path}, or run as its owner"
        except (OSError, ValueError) as exc:
            reason = f"it cannot be read ({getattr(exc, 'strerror', None) or exc})"
        else:
            if len(raw) > MAX_BYTES:
                reason = f"it is larger than {format_bytes(MAX_BYTES)}, so it is no settings file"
            else:
                try:
                    return raw.decode("utf-8-sig")
                except UnicodeDecodeError as exc:
                    line = raw.count(b"\n", 0, exc.start) + 1
                    reason = f"it is not UTF-8 text (byte 0x{raw[exc.start]:02x} in line {line})"
                    remedy = "save it as UTF-8"
        self.document.problems.append(
            Problem(reason, remedy, origin=Origin("file", self.name, file=self.name))
        )
        return None

    def _origin(self, node: yaml.Node, given: str | None = None) -> Origin:
        line = node.start_mark.line + 1
        return Origin("file", f"{self.name}:{line}", given, self.name, line)

    def _sections(self, root: yaml.Node) -> None:
        if not isinstance(root, yaml.MappingNode):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "a text"
            self._unreadable(
                Problem(
                    f"the file holds {kind} instead of sections",
                    f"write sections ({', '.join(f'{name}:' for name in SECTIONS)}), their fields indented",
                    origin=self._origin(root),
                )
            )
            return
        for key, key_node, value in self._pairs(root, ""):
            self.document.origins[key] = self._origin(key_node)
            self.document.data[key] = self._value(value, key) if key in SECTIONS else None

    def _pairs(self, node: yaml.MappingNode, name: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Keys and values of a mapping in order, merge keys resolved; duplicates are recorded."""
        seen: dict[str, yaml.Node] = {}
        for key_node, _ in node.value:
            key = _key(key_node)
            dotted = f"{name}.{key}" if name else key
            if key in seen and key != "<<" and (name or key in SECTIONS):
                first = seen[key].start_mark.line + 1
                self.document.problems.append(
                    Problem(
                        f"is given twice, first in line {first}",
                        "keep one of the two lines",
                        dotted,
                        origin=self._origin(key_node),
                    )
                )
            seen.setdefault(key, key_node)
        self.constructor.flatten_mapping(node)
        return [(_key(key_node), key_node, value) for key_node, value in node.value]

    def _value(self, node: yaml.Node, name: str) -> object:
        if name.count(".") > _DEEPEST:
            return None
        if not node.tag.startswith(_OUR_TAGS):
            self.document.problems.append(
                Problem(f"has the YAML tag {node.tag}", "remove the tag", name, origin=self._origin(node))
            )
            return None
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key, key_node, value in self._pairs(node, name):
                dotted = f"{name}.{key}"
                self.document.origins[dotted] = self._origin(key_node, _as_written(value, dotted))
                # What else canVODpy keeps beside the resources is not even looked at.
                foreign = name in _SHARED and key not in _OURS_IN_SHARED
                mapping[key] = None if foreign else self._value(value, dotted)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                dotted = f"{name}.{index}"
                self.document.origins[dotted] = self._origin(item, _as_written(item, dotted))
                items.append(self._value(item, dotted))
            return items
        return self._scalar(node, name) if isinstance(node, yaml.ScalarNode) else None

    def _scalar(self, node: yaml.ScalarNode, name: str) -> object:
        if node.tag == f"{_OUR_TAGS}null":
            return None
        if not takes_number(name):
            # Text is taken as it is written: YAML 1.1 reads the version 3.10 as 3.1 and the word on as true.
            return node.value
        if node.style is None and _SURPRISING_NUMBER.fullmatch(node.value):
            self.document.problems.append(
                Problem(
                    "is not a decimal number: YAML reads it in base 8 or 60",
                    "write it without leading zeros or :",
                    name,
                    node.value,
                    origin=self._origin(node),
                )
            )
            return None
        try:
            return self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError):
            return node.value


def _key(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else "?"


def _as_written(node: yaml.Node, name: str) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        return None
    return "null" if node.tag == f"{_OUR_TAGS}null" else shown(name, node.value)


def _yaml_files(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"})
    except OSError:
        return []


def _syntax_problem(error: yaml.YAMLError, text: str, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    opened = getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    position = getattr(error, "position", 0)
    line = mark.line if mark else text.count("\n", 0, position)
    column = mark.column if mark else position - text.rfind("\n", 0, position) - 1
    lines = text.splitlines() or [""]
    if line >= len(lines):
        # What is still open at the end of the file is reported behind its last line.
        line, column = len(lines) - 1, len(lines[-1])
    content = lines[line]
    remedy = "correct this line or the one before it"
    if "another document" in reason:
        reason, remedy = "the file holds more than one document", "keep one: remove the line ---"
    elif "\t" in content[: column + 1]:
        remedy = "indent with spaces: YAML takes no tabs"
    elif "mapping values are not allowed" in reason:
        remedy = "put a text that holds a colon in quotes, and mind the indentation"
    elif opened is not None and opened.line < len(lines):
        reason = f"{reason} ({error.context}, which begins in line {opened.line + 1})"  # type: ignore[attr-defined]
    number = str(line + 1)
    excerpt = f"  {number} | {content}\n  {' ' * len(number)} | {' ' * column}^"
    return Problem(
        f"this is not YAML: {reason}\n{without_password(excerpt)}",
        remedy,
        origin=Origin("file", f"{name}:{line + 1}:{column + 1}", file=name, line=line + 1),
    )
