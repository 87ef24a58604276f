"""JSON Schemas of every record and an AsyncAPI document of the topics, made from the structs."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import orjson

from features.records import ONE_TOPIC, OUTPUT_RECORDS, TAKEN_RECORDS

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
KEYED_BY = "customer_id"


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return record name -> JSON Schema (2020-12), inputs first."""
    records = [*TAKEN_RECORDS.values(), *OUTPUT_RECORDS.values()]
    return {
        record.__name__: {"$schema": SCHEMA_DIALECT, **msgspec.json.schema(record)}
        for record in records
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: what is sent to the engine and what it sends."""
    records = {**TAKEN_RECORDS, **OUTPUT_RECORDS}
    _, components = msgspec.json.schema_components(
        records.values(), ref_template="#/components/schemas/{name}"
    )
    channels = {topic: _channel(topic, [record]) for topic, record in records.items()}
    channels[ONE_TOPIC] = _channel(ONE_TOPIC, list(TAKEN_RECORDS.values()))
    channels["offers"]["address"] = "offers.{channel}"
    channels["offers"]["parameters"] = {"channel": {"description": "app_push, sms, ... or control"}}
    operations = {
        topic.replace("-", "_"): {
            "action": "send" if topic in OUTPUT_RECORDS else "receive",
            "channel": {"$ref": f"#/channels/{topic}"},
        }
        for topic in channels
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Millrace", "version": version("millrace")},
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                record.__name__: {
                    "contentType": "application/json",
                    "summary": (record.__doc__ or "").splitlines()[0],
                    "payload": {"$ref": f"#/components/schemas/{record.__name__}"},
                }
                for record in records.values()
            },
            "schemas": components,
        },
    }


def _channel(topic: str, records: list[type[msgspec.Struct]]) -> dict[str, Any]:
    keyed = all(KEYED_BY in record.__struct_fields__ for record in records)
    names = [record.__name__ for record in records]
    return {
        "address": topic,
        "description": "JSON, one record a message, "
        + (f"keyed by {KEYED_BY}" if keyed else "without a key"),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def documents() -> dict[str, bytes]:
    """Return file name -> content of all generated documents."""
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    found = {f"{name}.json": orjson.dumps(s, option=pretty) for name, s in json_schemas().items()}
    found["asyncapi.json"] = orjson.dumps(asyncapi(), option=pretty)
    return found


def write_documents(directory: Path) -> list[Path]:
    """Write all documents into `directory`; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, content in documents().items():
        files.append(directory / name)
        files[-1].write_bytes(content)
    return files
