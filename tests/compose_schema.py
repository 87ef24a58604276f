"""The part of the Compose Specification that docker-compose.yml uses, as a JSON Schema.

Written by hand from https://github.com/compose-spec/compose-spec/blob/main/spec.md: what we do not
use is refused, so that a misspelt key can't pass for one that Compose knows and we do not.
"""

from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
DURATION = {"type": "string", "pattern": r"^([0-9]+(h|m|s|ms|us))+$"}
NAME = r"^[a-zA-Z0-9._-]+$"
CONDITIONS = ["service_started", "service_healthy", "service_completed_successfully"]


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the schema of a mapping with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def named(member: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a mapping of names to something."""
    return {"type": "object", "patternProperties": {NAME: member}, "additionalProperties": False}


HEALTHCHECK = closed(
    {
        "test": {"type": "array", "items": TEXT, "minItems": 2},
        "interval": DURATION,
        "timeout": DURATION,
        "retries": {"type": "integer", "minimum": 1},
        "start_period": DURATION,
    },
    "test",
)
SERVICE = closed(
    {
        "build": TEXT,
        "command": TEXTS,
        "depends_on": named(closed({"condition": {"enum": CONDITIONS}}, "condition")),
        # Values are texts: YAML would make a number or a boolean of others.
        "environment": named(TEXT),
        "expose": {"type": "array", "items": {"type": "string", "pattern": r"^[0-9]+$"}},
        "healthcheck": HEALTHCHECK,
        "image": TEXT,
        "init": {"type": "boolean"},
        "ports": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^([0-9.]+:)?[0-9]+:[0-9]+$"},
            "uniqueItems": True,
        },
        "profiles": {"type": "array", "items": {"type": "string", "pattern": NAME}},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": DURATION,
        "tty": {"type": "boolean"},
        "volumes": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^[^:]+:/[^:]+(:ro|:rw)?$"},
            "uniqueItems": True,
        },
    },
    "image",
)
COMPOSE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]*$"},
        "services": named(SERVICE),
        "volumes": named({"type": ["object", "null"]}),
    },
    "patternProperties": {"^x-": {}},
    "required": ["services"],
    "additionalProperties": False,
}
