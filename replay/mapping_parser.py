"""Reads mapping files; every fault is a SourceError with file, line, column and nearest name."""

import codecs
import re
import zoneinfo
from pathlib import Path
from typing import Any

import msgspec
import yaml

from features.errors import MillraceError, nearest_name
from replay.fields import FieldKind, FieldType, field_types
from replay.mapping import (
    MAPPINGS_DIRECTORY,
    TOPICS_BY_KIND,
    FieldSpec,
    LabelSpec,
    Mapping,
    MinorUnits,
    Place,
    Sign,
    TableSpec,
    TimeFormat,
    TimeSpec,
    TruthSpec,
)
from replay.yaml_nodes import Entry, NodeReader, describe

DECIMALS_MAX = 8  # ISO 4217 has at most 4; eight leaves room for crypto currencies
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d|w)")
_DURATION_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_TABLE_KEYS = ("path", "kind", "columns", "labels", "optional", "delimiter", "encoding")
_FIELD_KEYS = (
    "column", "constant", "template", "time", "minor_units", "map", "sign", "split", "default",
)  # fmt: skip
_LABEL_KEYS = ("column", "fraud_when", "delay", "emit", "source")
_TRUTH_KEYS = ("path", "event_id", "fraud", "optional")


def load_mapping(path: Path | str) -> Mapping:
    """Read a mapping file, or a shipped mapping by its bare name (such as `handbook`).

    Raises SourceError for a fault in the file and MillraceError where there is no such file.
    """
    shipped = sorted(file.stem for file in MAPPINGS_DIRECTORY.glob("*.yaml"))
    file = MAPPINGS_DIRECTORY / f"{path}.yaml" if str(path) in shipped else Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = nearest_name(str(path), shipped)
        near = f"; did you mean `{hint}`?" if hint else f"; shipped: {', '.join(shipped)}"
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise MillraceError(f"{path}: expected a mapping file, got {reason}{near}") from error
    return parse_mapping(text, str(path))


def parse_mapping(text: str, file: str) -> Mapping:
    """Parse the text of a mapping file; `file` is its name in errors."""
    return _Parser(NodeReader(file)).mapping(text)


class _Parser:
    def __init__(self, reader: NodeReader) -> None:
        self._read = reader

    def mapping(self, text: str) -> Mapping:
        root = self._read.compose(text)
        entries = self._read.entries(root, "a mapping file", ("tables", "truth"))
        nodes = self._read.items(self._needed(entries, "tables", root), "the tables")
        tables = tuple(self._table(node) for node in nodes)
        if len(tables) > 1:
            for node, table in zip(nodes, tables, strict=True):
                if table.path is None:
                    raise self._read.fault(node, "a `path` for each of several tables", "none")
        truth = self._truth(entries["truth"].value) if "truth" in entries else None
        return Mapping(self._read.file, tables, truth)

    def _table(self, node: yaml.Node) -> TableSpec:
        read = self._read
        entries = read.entries(node, "a table", _TABLE_KEYS)
        kind_node = self._needed(entries, "kind", node)
        kind = read.choice(kind_node, "a kind of record", tuple(TOPICS_BY_KIND))
        columns = None
        if "columns" in entries:
            columns = self._columns(entries["columns"].value, kind)
        labels = None
        if "labels" in entries:
            if kind != "transaction":
                got = f"a table of kind `{kind}`"
                raise read.fault(entries["labels"].key, "`labels` of transactions only", got)
            labels = self._labels(entries["labels"].value)
        return TableSpec(
            kind=kind,
            place=self._place(node),
            path=self._path(entries),
            columns=columns,
            labels=labels,
            optional=self._optional(entries),
            delimiter=self._delimiter(entries),
            encoding=self._encoding(entries),
        )

    def _delimiter(self, entries: dict[str, Entry]) -> str:
        if "delimiter" not in entries:
            return ","
        node = entries["delimiter"].value
        delimiter = self._read.text(node, "one character")
        if len(delimiter) != 1 or not delimiter.isascii():
            raise self._read.fault(node, "one ASCII character", f"`{delimiter}`")
        return delimiter

    def _encoding(self, entries: dict[str, Entry]) -> str:
        if "encoding" not in entries:
            return "utf-8"
        node = entries["encoding"].value
        expected = "a text encoding, such as utf-8 or latin-1"
        encoding = self._read.text(node, expected)
        try:
            codecs.getincrementaldecoder(encoding)
        except LookupError as error:
            raise self._read.fault(node, expected, f"`{encoding}`") from error
        return encoding

    def _columns(self, node: yaml.Node, kind: str) -> tuple[FieldSpec, ...]:
        types = field_types(kind)
        entries = self._read.entries(node, f"the fields of a {kind}", tuple(types))
        for name, field in types.items():
            if field.required and name not in entries:
                expected = f"a column or a constant for the required field `{name}`"
                raise self._read.fault(node, expected, "none")
        # In the record's own order, so that the JSON doesn't depend on the order in the file.
        return tuple(
            self._field(types[name], entries[name].value) for name in types if name in entries
        )

    def _field(self, field: FieldType, node: yaml.Node) -> FieldSpec:
        if isinstance(node, yaml.ScalarNode):
            column = self._read.text(node, f"a column for `{field.name}`")
            return FieldSpec(field.name, self._place(node), column=column)
        entries = self._read.entries(node, f"the mapping of `{field.name}`", _FIELD_KEYS)
        if "constant" in entries:
            return self._constant(field, entries, node)
        column_node = self._needed(entries, "column", node)
        values = None
        if "map" in entries:
            fits = field.kind is not FieldKind.INTEGER or not field.name.endswith(("_ms", "_minor"))
            self._only_for(field, entries["map"], fits, "fields other than times and amounts")
            pairs = self._read.entries(entries["map"].value, "values and what they become")
            values = {text: self._value(field, pair.value) for text, pair in pairs.items()}
        default = None
        if "default" in entries:
            default = self._value(field, entries["default"].value)
        return FieldSpec(
            field.name,
            self._place(column_node),
            column=self._read.text(column_node, f"a column for `{field.name}`"),
            template=self._template(field, entries),
            time=self._time(field, entries),
            minor_units=self._minor_units(field, entries),
            values=values,
            sign=self._sign(field, entries),
            split=self._split(field, entries),
            default=default,
        )

    def _constant(self, field: FieldType, entries: dict[str, Entry], node: yaml.Node) -> FieldSpec:
        others = [name for name in entries if name != "constant"]
        if others:
            raise self._read.fault(
                entries[others[0]].key, "nothing beside `constant`", f"`{others[0]}`"
            )
        value = self._value(field, entries["constant"].value)
        return FieldSpec(field.name, self._place(node), constant=value)

    def _value(self, field: FieldType, node: yaml.Node) -> Any:
        """Return a value that the field takes, checked against the record's own type."""
        if field.kind is FieldKind.TEXT:
            value: Any = self._read.text(node, f"a value for `{field.name}`")
        else:
            value = self._read.plain(node)
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            near = nearest_name(str(value), field.choices)
            expected = f"a value that `{field.name}` takes ({error})"
            raise self._read.fault(node, expected, describe(node), near) from error
        return value

    def _template(self, field: FieldType, entries: dict[str, Entry]) -> tuple[str, str] | None:
        if "template" not in entries:
            return None
        node = entries["template"].value
        self._only_for(field, entries["template"], field.kind is FieldKind.TEXT, "text fields")
        expected = 'text with one {}, such as "C{}"'
        template = self._read.text(node, expected)
        before, braces, after = template.partition("{}")
        if not braces or "{" in before + after or "}" in before + after:
            raise self._read.fault(node, expected, f"`{template}`")
        return before, after

    def _time(self, field: FieldType, entries: dict[str, Entry]) -> TimeSpec | None:
        if "time" not in entries:
            return None
        self._only_for(field, entries["time"], field.name.endswith("_ms"), "fields in ms")
        node = entries["time"].value
        formats = tuple(TimeFormat)
        if isinstance(node, yaml.ScalarNode):
            return TimeSpec(TimeFormat(self._read.choice(node, "a time format", formats)))
        parts = self._read.entries(node, "a time", ("format", "timezone"))
        format_node = self._needed(parts, "format", node)
        chosen = TimeFormat(self._read.choice(format_node, "a time format", formats))
        if "timezone" not in parts:
            return TimeSpec(chosen)
        zone_node = parts["timezone"].value
        zone = self._read.text(zone_node, "a time zone")
        known = zoneinfo.available_timezones() | {"UTC"}
        if zone not in known:
            expected = "an IANA time zone, such as `Europe/Brussels`"
            near = nearest_name(zone, sorted(known))
            raise self._read.fault(zone_node, expected, f"`{zone}`", near)
        return TimeSpec(chosen, zone)

    def _minor_units(self, field: FieldType, entries: dict[str, Entry]) -> MinorUnits | None:
        if "minor_units" not in entries:
            return None
        fits = field.name.endswith("_minor")
        self._only_for(field, entries["minor_units"], fits, "amounts in minor units")
        node = entries["minor_units"].value
        what = "the number of decimal places"
        if isinstance(node, yaml.ScalarNode):
            return MinorUnits(self._read.integer(node, what, 0, DECIMALS_MAX))
        parts = self._read.entries(node, "minor units", ("decimals", "strip", "absolute"))
        decimals_node = self._needed(parts, "decimals", node)
        decimals = self._read.integer(decimals_node, what, 0, DECIMALS_MAX)
        strip = ""
        if "strip" in parts:
            strip = self._read.text(parts["strip"].value, "the characters to take out")
        absolute = False
        if "absolute" in parts:
            absolute = self._read.flag(parts["absolute"].value, "whether to drop the sign")
        return MinorUnits(decimals, strip, absolute)

    def _sign(self, field: FieldType, entries: dict[str, Entry]) -> Sign | None:
        if "sign" not in entries:
            return None
        self._only_for(field, entries["sign"], field.kind is FieldKind.TEXT, "text fields")
        node = entries["sign"].value
        parts = self._read.entries(node, "values by sign", ("negative", "otherwise"))
        negative = self._value(field, self._needed(parts, "negative", node))
        return Sign(negative, self._value(field, self._needed(parts, "otherwise", node)))

    def _split(self, field: FieldType, entries: dict[str, Entry]) -> str | None:
        if "split" not in entries:
            return None
        self._only_for(field, entries["split"], field.kind is FieldKind.NESTED, "list fields")
        return self._read.text(entries["split"].value, "the text between two items")

    def _labels(self, node: yaml.Node) -> LabelSpec:
        read = self._read
        entries = read.entries(node, "labels", _LABEL_KEYS)
        column_node = self._needed(entries, "column", node)
        when_node = self._needed(entries, "fraud_when", node)
        what = "the value that means fraud, or a list of them"
        single = isinstance(when_node, yaml.ScalarNode)
        nodes = [when_node] if single else read.items(when_node, what)
        emit = "fraud"
        if "emit" in entries:
            emit = read.choice(entries["emit"].value, "which labels to send", ("fraud", "all"))
        source = "replay"
        if "source" in entries:
            source = read.text(entries["source"].value, "the source of the labels")
        return LabelSpec(
            column=read.text(column_node, "the column of the labels"),
            place=self._place(column_node),
            fraud_when=frozenset(read.text(item, what) for item in nodes),
            delay_ms=self._duration_ms(self._needed(entries, "delay", node)),
            emit_all=emit == "all",
            source=source,
        )

    def _truth(self, node: yaml.Node) -> TruthSpec:
        read = self._read
        entries = read.entries(node, "the truth", _TRUTH_KEYS)
        path_node = self._needed(entries, "path", node)
        event_id, fraud = "event_id", None
        if "event_id" in entries:
            event_id = read.text(entries["event_id"].value, "the column of the event ids")
        if "fraud" in entries:
            fraud = read.text(entries["fraud"].value, "the column of the verdicts")
        path = self._path(entries)
        optional = self._optional(entries)
        return TruthSpec(path or "", self._place(path_node), event_id, fraud, optional)

    def _path(self, entries: dict[str, Entry]) -> str | None:
        if "path" not in entries:
            return None
        node = entries["path"].value
        expected = "a path inside the source directory"
        path = self._read.text(node, expected)
        if Path(path).is_absolute() or ".." in Path(path).parts or path in ("", "."):
            raise self._read.fault(node, expected, f"`{path}`")
        return path

    def _optional(self, entries: dict[str, Entry]) -> bool:
        if "optional" not in entries:
            return False
        return self._read.flag(entries["optional"].value, "whether the table may be missing")

    def _duration_ms(self, node: yaml.Node) -> int:
        expected = "a duration, such as 7d, 12h or 0s"
        text = self._read.text(node, expected)
        match = _DURATION.fullmatch(text)
        if match is None:
            raise self._read.fault(node, expected, f"`{text}`")
        return int(match[1]) * _DURATION_MS[match[2]]

    def _only_for(self, field: FieldType, entry: Entry, fits: bool, what: str) -> None:
        if not fits:
            expected = f"`{entry.key.value}` on {what} only"
            raise self._read.fault(entry.key, expected, f"the field `{field.name}`")

    def _needed(self, entries: dict[str, Entry], name: str, node: yaml.Node) -> yaml.Node:
        if name not in entries:
            raise self._read.fault(node, f"the key `{name}`", "none")
        return entries[name].value

    def _place(self, node: yaml.Node) -> Place:
        return Place(node.start_mark.line + 1, node.start_mark.column + 1)
