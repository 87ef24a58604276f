"""A small JSON Schema checker: exactly the keywords that our documents use, and no others."""

import re
from collections.abc import Iterator
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
NOTES = {
    "$schema", "$id", "$defs", "definitions", "title", "description", "default", "deprecated",
    "contentEncoding",
}  # fmt: skip
MEMBERS = ("properties", "patternProperties", "additionalProperties")


def resolve(document: Any, reference: str) -> Any:
    """Return what a local `$ref` points at; KeyError where it points nowhere."""
    if not reference.startswith("#/"):
        raise KeyError(f"expected a local reference, got {reference}")
    found = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(node: Any) -> Iterator[str]:
    """Yield every `$ref` below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def faults(schema: dict[str, Any], value: Any, document: Any, path: str = "$") -> list[str]:
    """Return what a value has against a schema; ValueError for a keyword not known here."""
    found: list[str] = []
    for keyword, rule in schema.items():
        if keyword in NOTES:
            continue
        if keyword == "$ref":
            found += faults(resolve(document, rule), value, document, path)
        elif keyword == "anyOf":
            if all(faults(option, value, document, path) for option in rule):
                found.append(f"{path}: none of the alternatives")
        elif keyword == "oneOf":
            fitting_count = sum(not faults(option, value, document, path) for option in rule)
            if fitting_count != 1:
                found.append(f"{path}: {fitting_count} of the alternatives, expected one")
        elif keyword == "items":
            for number, item in enumerate(value if isinstance(value, list) else ()):
                found += faults(rule, item, document, f"{path}[{number}]")
        elif keyword == "propertyNames":
            for name in value if isinstance(value, dict) else ():
                found += faults(rule, name, document, f"{path}: name {name}")
        elif keyword in MEMBERS:
            found += _member_faults(schema, keyword, value, document, path)
        elif not _holds(keyword, rule, value):
            found.append(f"{path}: {keyword} {rule}")
    return found


def _member_faults(
    schema: dict[str, Any], keyword: str, value: Any, document: Any, path: str
) -> list[str]:
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    found: list[str] = []
    for name, member in value.items() if isinstance(value, dict) else ():
        matching = [rule for pattern, rule in patterns.items() if re.search(pattern, str(name))]
        rules: list[Any] = []
        if keyword == "properties":
            rules = [named[name]] if name in named else []
        elif keyword == "patternProperties":
            rules = matching
        elif name not in named and not matching:
            rules = [schema["additionalProperties"]]
        for rule in rules:
            if isinstance(rule, dict):
                found += faults(rule, member, document, f"{path}.{name}")
            elif rule is False:
                found.append(f"{path}: no member `{name}` is known")
    return found


def _holds(keyword: str, rule: Any, value: Any) -> bool:
    if keyword == "type":
        is_bool = isinstance(value, bool)
        names = rule if isinstance(rule, list) else [rule]
        return any(isinstance(value, TYPES[n]) and (not is_bool or n == "boolean") for n in names)
    if keyword == "enum":
        return value in rule
    if keyword == "required":
        return isinstance(value, dict) and set(rule) <= set(value)
    if keyword in ("minimum", "maximum"):
        number = value if isinstance(value, int | float) else rule
        return bool(number >= rule if keyword == "minimum" else number <= rule)
    if keyword in ("minLength", "maxLength"):
        length = len(value) if isinstance(value, str) else rule
        return bool(length >= rule if keyword == "minLength" else length <= rule)
    if keyword == "uniqueItems":
        items = [repr(item) for item in value] if isinstance(value, list) else []
        return not rule or len(items) == len(set(items))
    if keyword in ("minItems", "maxItems", "minProperties", "maxProperties"):
        holder = list if keyword.endswith("Items") else dict
        count = len(value) if isinstance(value, holder) else rule
        return bool(count >= rule if keyword.startswith("min") else count <= rule)
    if keyword == "pattern":
        return not isinstance(value, str) or re.search(rule, value) is not None
    raise ValueError(f"a keyword that this checker does not know: {keyword}")
