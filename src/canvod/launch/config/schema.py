"""JSON Schema of the settings file, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from canvod.launch.config.settings import Settings


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a settings file.

    An editor with the YAML language server uses it when the file's first line is
    ``# yaml-language-server: $schema=PATH``.

    Returns
    -------
    dict
        The schema. ``launch`` and ``ingest`` take no other keys; ``processing`` and the top level do, as they
        are shared with canVODpy.

    Examples
    --------
    >>> json_schema()["$defs"]["LaunchSettings"]["additionalProperties"]
    False
    """
    schema = Settings.model_json_schema(schema_generator=_Draft202012)
    schema["$schema"] = GenerateJsonSchema.schema_dialect
    processing = schema["$defs"]["ProcessingSettings"]
    processing["if"] = {"properties": {"resource_mode": {"const": "manual"}}, "required": ["resource_mode"]}
    processing["then"] = {"required": ["n_max_threads"], "properties": {"n_max_threads": {"type": "integer"}}}
    for name, field in processing["properties"].items():
        if "anyOf" not in field:
            # canVODpy's files write null for a field that is not set.
            processing["properties"][name] = _or_null(field)
    for name, section in schema["properties"].items():
        schema["properties"][name] = _or_null(section)
    return schema


class _Draft202012(GenerateJsonSchema):
    def get_title_from_name(self, name: str) -> str:
        return name


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    outer: dict[str, Any] = {key: field[key] for key in ("title", "description", "default") if key in field}
    inner = {key: value for key, value in field.items() if key not in outer}
    return {"anyOf": [inner, {"type": "null"}], **outer}
