"""Why a record was refused: a decoder's error as path, expected, got and the nearest known name."""

import re
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from features.errors import RecordError, nearest_name
from features.raw import RawRecord
from features.records import ONE_TOPIC, TAKEN_RECORDS

_AT = re.compile(r" - at `(?P<path>[^`]*)`$")
_EXPECTED_GOT = re.compile(r"^Expected (?P<expected>.*), got (?P<got>.*)$")
_MISSING_FIELD = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")


def explain(raw: RawRecord, error: Exception) -> RecordError:
    """Turn a decoder's refusal into path, expected, got and the nearest known name."""
    if isinstance(error, KeyError):
        topics = [*TAKEN_RECORDS, ONE_TOPIC]
        expected = "a topic of " + ", ".join(topics)
        return RecordError("$", expected, repr(raw.topic), nearest_name(raw.topic, topics))
    if not isinstance(error, msgspec.ValidationError):
        return RecordError("$", "a JSON object in UTF-8", f"{_clip(raw.value)} ({error})")
    message = str(error)
    at = _AT.search(message)
    path = at["path"] if at else "$"
    message = _AT.sub("", message)
    if match := _MISSING_FIELD.match(message):
        return _missing_field(raw, path, match["name"])
    value = _value_at(raw.value, path)
    if match := _EXPECTED_GOT.match(message):
        return RecordError(path, match["expected"].replace("`", ""), _shown(value, match["got"]))
    if message.startswith(("Invalid enum value", "Invalid value")):
        known = _known_values(raw, path)
        got = _shown(value, "an unknown value")
        nearest = nearest_name(value, known) if isinstance(value, str) else None
        return RecordError(path, "one of " + ", ".join(known), got, nearest)
    if message.endswith("out of range"):
        return RecordError(path, "a number that fits its type", "one that is too large")
    return RecordError(
        path, message.removeprefix("Expected ").replace("`", ""), _shown(value, "null")
    )


def _missing_field(raw: RawRecord, path: str, name: str) -> RecordError:
    holder = _value_at(raw.value, path)
    keys = list(holder) if isinstance(holder, dict) else []
    kind = _record_type(raw)
    known = set(kind.__struct_fields__) if kind else set()
    nearest = nearest_name(name, [key for key in keys if key not in known])
    got = "none" if nearest is None else f"none, but an unknown field `{nearest}`"
    return RecordError(f"{path}.{name}", "a required field", got, name if nearest else None)


def _record_type(raw: RawRecord) -> type[Struct] | None:
    if raw.topic in TAKEN_RECORDS:
        return TAKEN_RECORDS[raw.topic]
    tag = _value_at(raw.value, "$.kind")
    tags = {kind.__struct_config__.tag: kind for kind in TAKEN_RECORDS.values()}
    return tags.get(tag) if isinstance(tag, str) else None


def _known_values(raw: RawRecord, path: str) -> list[str]:
    """List the values allowed at `path`: the tags, or the literals of the field's type."""
    if path == "$.kind":
        if raw.topic == ONE_TOPIC:
            return [str(kind.__struct_config__.tag) for kind in TAKEN_RECORDS.values()]
        return [str(TAKEN_RECORDS[raw.topic].__struct_config__.tag)]
    kind = _record_type(raw)
    if kind is None:
        return []
    schema = msgspec.json.schema_components((kind,))[1]
    properties = schema[kind.__name__]["properties"]
    entry = properties.get(path.removeprefix("$.").split("[")[0].split(".")[0], {})
    options = [entry, entry.get("items", {}), *entry.get("anyOf", [])]
    return sorted({str(value) for option in options for value in option.get("enum", [])})


def _value_at(value: bytes, path: str) -> Any:
    """Return what stands at a JSON path such as `$.a.b[2]`, or None."""
    try:
        found: Any = orjson.loads(value)
        for step in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
            found = found[step[0]] if step[0] else found[int(step[1])]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return None
    return found


def _shown(value: Any, fallback: str) -> str:
    if value is None:
        return fallback.replace("`", "")
    return f"{type(value).__name__} {_clip(repr(value))}"


def _clip(value: str | bytes, limit: int = 80) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
