"""A YAML file of settings, with the line of each value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from canvod.launch.config.canvodpy import RESOURCES
from canvod.launch.config.catalogue import SECTIONS, nearest
from canvod.launch.config.problems import SettingsError
from canvod.launch.config.redact import shown, without_password
from canvod.launch.config.settings import Origin
from canvod.launch.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from canvod.launch.config.problems import Findings

MAX_BYTES = 4 * MIB
"""Largest file that is taken for settings; a mistaken data file is refused before it is parsed."""

_DEEPEST = 5
_STANDARD_TAGS = "tag:yaml.org,2002:"
_NULL = f"{_STANDARD_TAGS}null"
_MERGE = f"{_STANDARD_TAGS}merge"
_OURS = {"": SECTIONS, "processing": (*RESOURCES, "params"), "processing.params": RESOURCES}
"""Keys that are read in the mappings that are shared with canVODpy, by the mapping's dotted name."""

_SYNTAX_REMEDIES = {
    "another document": "remove the line ---: the file holds more than one document",
    "\\t": "indent with spaces: YAML takes no tabs",
    "mapping values are not allowed": "put a text that holds a colon in quotes, and mind the indentation",
    "": "correct this line or the one before it",
}
"""What to do about an error of YAML, by a part of PyYAML's message."""


class _TextLoader(yaml.SafeLoader):
    """A loader that leaves all values but null as text, for pydantic to convert where a field is no text.

    YAML 1.1 reads the version 3.10 as 3.1, the word on as true, and 1000:50 in base 60.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag in {_NULL, _MERGE}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class YamlFile:
    """A settings file.

    Parameters
    ----------
    path : str or Path
        The file; a pipe can be read, too.
    findings : Findings
        Takes the problems and the notes.
    """

    def __init__(self, path: str | Path, findings: Findings) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path) if str(path).isprintable() else repr(str(path))
        self.findings = findings
        self.origins: dict[str, Origin] = {}
        """Place of each part that `read` found, by dotted name."""
        self._constructor = yaml.SafeLoader("")

    def read(self) -> dict[str, Any]:
        """Read the sections.

        Returns
        -------
        dict
            Ours with their fields, as text; of canVODpy's other ones the name, with None.

        Raises
        ------
        SettingsError
            If the file cannot be read as a mapping of sections. The error holds the problems found before,
            too.
        """
        text = self._text(self.path)
        try:
            root = yaml.compose(text, Loader=_TextLoader)
            data = dict(self._items(root, "")) if isinstance(root, yaml.MappingNode) else {}
        except yaml.reader.ReaderError as exc:
            before = text[: exc.position]
            line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
            reason = f"this is not YAML: {exc.reason} ({text[exc.position]!r})"
            raise self._refusal(reason, "remove this character", self._origin(line, column)) from exc
        except yaml.MarkedYAMLError as exc:
            raise self._syntax_refusal(exc, text) from exc
        except RecursionError:
            remedy = "remove the brackets or anchors that nest without an end"
            raise self._refusal("the file is nested too deeply", remedy) from None
        if root is None:
            self.findings.notes.append(f"{self.name} is empty: the defaults are used")
        elif not isinstance(root, yaml.MappingNode):
            kind = "list" if isinstance(root, yaml.SequenceNode) else "text"
            reason = f"the file holds a {kind} instead of sections"
            remedy = f"write sections ({', '.join(f'{name}:' for name in SECTIONS)}), their fields indented"
            raise self._refusal(reason, remedy, self._origin(root.start_mark.line))
        return data

    def _refusal(self, reason: str, remedy: str, origin: Origin | None = None) -> SettingsError:
        self.findings.add(reason, remedy, origin=origin or Origin("file", self.name, self.name))
        return SettingsError(self.findings.problems)

    def _text(self, path: Path) -> str:
        remedy = "name another file with --config, or start from the project's config/processing.yaml"
        try:
            with path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
            if len(raw) <= MAX_BYTES:
                # Without the white space at the end, what is still open there is reported in the last line.
                return raw.decode("utf-8-sig").rstrip()
            reason = f"it is larger than {format_bytes(MAX_BYTES)}, so it is no settings file"
        except FileNotFoundError:
            reason = "there is no such file"
            near = nearest(path.name, _yaml_files(path.parent))
            remedy = f"did you mean {path.parent / near}? Else {remedy}" if near else remedy
        except IsADirectoryError:
            reason = "it is a folder, not a file"
            inside = _yaml_files(path)
            remedy = f"did you mean {path / inside[0]}?" if inside else remedy
        except PermissionError:
            reason, remedy = "this user may not read it", f"chmod u+r {path}, or run as its owner"
        except UnicodeDecodeError as exc:
            line = exc.object.count(b"\n", 0, exc.start) + 1
            reason = f"it is not UTF-8 text (byte 0x{exc.object[exc.start]:02x} in line {line})"
            remedy = "save it as UTF-8"
        except (OSError, ValueError) as exc:
            reason = f"it cannot be read ({getattr(exc, 'strerror', None) or exc})"
        raise self._refusal(reason, remedy)

    def _syntax_refusal(self, error: yaml.MarkedYAMLError, text: str) -> SettingsError:
        mark, reason = cast("yaml.Mark", error.problem_mark), str(error.problem)
        remedy = next(remedy for part, remedy in _SYNTAX_REMEDIES.items() if part in reason)
        excerpt = f"\n{without_password(mark.get_snippet() or '')}"
        if _is_in_environment(text.splitlines()[: mark.line + 1]):
            # PyYAML quotes what it read.
            reason, excerpt = f"{reason.partition("'")[0].rstrip()} …", ""
        if error.context_mark is not None:
            reason += f" ({error.context}, which begins in line {error.context_mark.line + 1})"
        origin = self._origin(mark.line, mark.column)
        return self._refusal(f"this is not YAML: {reason}{excerpt}", remedy, origin)

    def _origin(self, line: int, column: int | None = None) -> Origin:
        """Place in the file by PyYAML's numbers, which begin with 0."""
        place = f"{self.name}:{line + 1}" + ("" if column is None else f":{column + 1}")
        return Origin("file", place, self.name, line + 1)

    def _items(self, node: yaml.MappingNode, name: str) -> Iterator[tuple[str, Any]]:
        """Keys and values of a mapping, merge keys resolved; of canVODpy's keys the name, with None."""
        prefix = f"{name}." if name else ""
        ours = _OURS.get(name)
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = _key(key_node), key_node.start_mark.line
            if key in first and key != "<<" and (name or key in SECTIONS):
                reason = f"is given twice, first in line {first[key]}"
                self.findings.add(
                    reason, "keep one of the two lines", f"{prefix}{key}", origin=self._origin(line)
                )
            first.setdefault(key, line + 1)
        self._constructor.flatten_mapping(node)
        for key_node, value in node.value:
            key = _key(key_node)
            self.origins[f"{prefix}{key}"] = self._origin(key_node.start_mark.line)
            yield key, self._value(value, f"{prefix}{key}") if ours is None or key in ours else None

    def _value(self, node: yaml.Node, name: str) -> Any:
        """Text, or lists and mappings of text; the line of each part is recorded."""
        if not node.tag.startswith(_STANDARD_TAGS):
            reason = f"has the YAML tag {shown(name, node.tag)}"
            self.findings.add(reason, "remove the tag", name, origin=self._origin(node.start_mark.line))
        elif name.count(".") <= _DEEPEST:
            if isinstance(node, yaml.MappingNode):
                return dict(self._items(node, name))
            if isinstance(node, yaml.SequenceNode):
                self.origins |= {
                    f"{name}.{i}": self._origin(item.start_mark.line) for i, item in enumerate(node.value)
                }
                return [self._value(item, f"{name}.{i}") for i, item in enumerate(node.value)]
            return None if node.tag == _NULL else node.value
        return None


def _key(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else "?"


def _is_in_environment(lines: list[str]) -> bool:
    """Whether the last line may hold a value of ``launch.environment``, which no message may show."""
    indent = len(lines[-1]) - len(lines[-1].lstrip())
    above = [line for line in lines if line.strip() and len(line) - len(line.lstrip()) < indent]
    return "environment:" in lines[-1] + "".join(above[-1:])


def _yaml_files(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"})
    except OSError:
        return []
