"""The published documents: as committed, true of the records, and whole."""

import base64
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import orjson
import pytest
from bad_records import TS_MS, as_json
from schema_check import faults, references, resolve

from actions.ids import deterministic_id
from features.decode import ONE_TOPIC
from features.records import (
    ENCODER,
    OUTPUT_RECORDS,
    TAKEN_RECORDS,
    Alert,
    CalibrationBin,
    ContactChannel,
    ContestantMeasures,
    DeadLetter,
    Drift,
    LostCandidate,
    ModelPromoted,
    ModelRefused,
    ModelReport,
    Offer,
    Profile,
    QuietHours,
    Reason,
    Task,
    TrainingExample,
    Transaction,
    Versions,
)
from streams.deciding import CONTROL_TOPIC
from streams.schemas import asyncapi, documents, json_schemas, write_documents

COMMITTED = Path(__file__).parent.parent / "docs" / "schemas"
RECORDS = {**TAKEN_RECORDS, **OUTPUT_RECORDS}
VERSIONS = Versions(policy="f00", models={"fraud": 3})
WHO: dict[str, Any] = {"event_id": "e1", "ts_ms": TS_MS, "customer_id": "ada"}

FULL_TRANSACTION = msgspec.convert(
    {
        **json.loads(as_json("transactions")), "card_id": "c", "merchant_id": "m", "mcc": 5411,
        "terminal_id": "t", "payee_id": "p", "country": "FR", "lat": 48.85, "lon": 2,
        "device_id": "d", "ip": "::1", "balance_minor": -5,
    },
    Transaction,
)  # fmt: skip
EXAMPLES: list[msgspec.Struct] = [
    *(msgspec.json.decode(as_json(topic), type=kind) for topic, kind in TAKEN_RECORDS.items()),
    FULL_TRANSACTION,
    Profile(
        customer_id="ada",
        ts_ms=TS_MS,
        products=("card",),
        consents=("marketing:sms",),
        preferred_channels=("sms",),
        quiet_hours=QuietHours(start_hour=22, end_hour=7),
        birth_year=1990,
        customer_since_ms=TS_MS,
    ),
    Alert(
        alert_id=deterministic_id("e1", "alert"), risk="fraud", severity="high", action="hold",
        score=0.97, amount_minor=12_300, currency="EUR", versions=VERSIONS, **WHO,
        reasons=(Reason(source="rule:new_payee", text="a new payee", weight=1.5),),
    ),
    Offer(
        action_id="a1", offer="savings_plan", channel="sms", text_key="savings", versions=VERSIONS,
        parameters={"rate": 2.5, "months": 12, "name": "plan"}, deliver_from_ms=TS_MS,
        valid_until_ms=TS_MS + 1, propensity=0.5, explored=True, control=False,
        why=("a salary",), **WHO, lost=(LostCandidate(offer="loan", reason="no consent"),),
    ),
    Task(
        task_id="t1", task="call", owner="desk", due_ms=TS_MS, why=("large",), versions=VERSIONS,
        **WHO,
    ),
    TrainingExample(
        model="fraud", event=-(2**63) + 1, ts_ms=TS_MS, matured_ms=TS_MS, fraud=False, weight=10.0,
        features=[0.5, -1.0], scores=[0.25],
    ),
    ModelReport(
        model="fraud", ts_ms=TS_MS, version=7, champion="scaled_logistic", from_ms=TS_MS - 9,
        to_ms=TS_MS, example_count=20, fraud_count=2, alerts_per_day=100.0,
        contestants=(
            ContestantMeasures(
                contestant="scaled_logistic", pipeline="scaled_logistic", learned_count=500,
                auc=0.9, average_precision=None, recall_at_budget=0.5, log_loss=0.1,
                calibration_error=0.01, calibration=(CalibrationBin(predicted=0.1, observed=0.2),),
            ),
        ),
    ),
    ModelPromoted(
        model="fraud", ts_ms=TS_MS, version=8, champion="other", before="scaled_logistic",
        by="command",
    ),
    ModelRefused(
        model="fraud", ts_ms=TS_MS, version=0, contestant="other", pipeline="adaptive_tree",
        role="challenger", fraud_share=0.005, expected="more", got="0.99",
    ),
    Drift(
        model="fraud", ts_ms=TS_MS, version=8, what="error:other", detector="adwin", before=0.1,
        after=0.2, response="reset",
    ),
    DeadLetter(
        raw=b"\xff", topic="labels", partition=1, offset=7, path="$", expected="x", got="y",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    return json_schemas()


def test_the_committed_documents_are_those_of_this_code() -> None:
    """After a change of the records: `millrace schemas docs/schemas`."""
    assert {file.name: file.read_bytes() for file in COMMITTED.iterdir()} == documents()


def test_documents_are_written_whole(tmp_path: Path) -> None:
    files = write_documents(tmp_path / "new" / "folder")
    assert {file.name: file.read_bytes() for file in files} == documents()
    assert sorted(files) == sorted((tmp_path / "new" / "folder").iterdir())


def test_there_is_a_schema_and_an_example_of_every_record(
    schemas: dict[str, dict[str, Any]],
) -> None:
    names = {record.__name__ for record in RECORDS.values()}
    assert set(schemas) == names == {type(example).__name__ for example in EXAMPLES}
    assert set(documents()) == {f"{name}.json" for name in names} | {"asyncapi.json"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_record_fits_its_schema(
    schemas: dict[str, dict[str, Any]], example: msgspec.Struct
) -> None:
    schema = schemas[type(example).__name__]
    value = json.loads(ENCODER.encode(example))
    assert faults(schema, value, schema) == []
    # What the schema lets in, the decoder takes: the two come from the same structs.
    assert msgspec.json.decode(ENCODER.encode(example), type=type(example)) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_spoilt_record_does_not(
    schemas: dict[str, dict[str, Any]], example: msgspec.Struct
) -> None:
    schema = schemas[type(example).__name__]
    value = json.loads(ENCODER.encode(example))
    required = resolve(schema, schema["$ref"])["required"]
    assert required
    for name in required:
        without = {key: member for key, member in value.items() if key != name}
        assert faults(schema, without, schema), name
        assert faults(schema, {**value, name: [[None]]}, schema), name


def test_the_schemas_hold_the_limits_of_the_records(schemas: dict[str, dict[str, Any]]) -> None:
    good = {"kind": "transaction", **json.loads(as_json("transactions"))}
    schema = schemas["Transaction"]
    assert faults(schema, good, schema) == []
    spoilt = {"ts_ms": TS_MS // 1000, "amount_minor": -1, "currency": "eur", "event_id": "",
              "type": "purchse", "lat": 91, "mcc": 10_000, "card_id": "x" * 129}  # fmt: skip
    for name, member in spoilt.items():
        assert faults(schema, {**good, name: member}, schema), name


def test_dead_letters_carry_their_bytes_as_base64(schemas: dict[str, dict[str, Any]]) -> None:
    raw = resolve(schemas["DeadLetter"], schemas["DeadLetter"]["$ref"])["properties"]["raw"]
    assert raw["contentEncoding"] == "base64"
    value = json.loads(ENCODER.encode(EXAMPLES[-1]))
    assert base64.b64decode(value["raw"], validate=True) == b"\xff"


def test_every_reference_resolves() -> None:
    for name, content in documents().items():
        document = orjson.loads(content)
        found = list(references(document))
        assert found, name
        for reference in found:
            assert isinstance(resolve(document, reference), dict)


def test_the_asyncapi_document_names_every_topic() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    channels = document["channels"]
    assert set(channels) == {*TAKEN_RECORDS, ONE_TOPIC, *OUTPUT_RECORDS}
    for topic, channel in channels.items():
        expected = TAKEN_RECORDS.values() if topic == ONE_TOPIC else [RECORDS[topic]]
        assert list(channel["messages"]) == [record.__name__ for record in expected]
        for message in channel["messages"].values():
            payload = resolve(document, resolve(document, message["$ref"])["payload"]["$ref"])
            assert payload["title"] in channel["messages"]
        keyed = all("customer_id" in record.__struct_fields__ for record in expected)
        assert ("keyed by customer_id" in channel["description"]) == keyed
    directions = {o["channel"]["$ref"]: o["action"] for o in document["operations"].values()}
    assert directions == {
        f"#/channels/{topic}": "send" if topic in OUTPUT_RECORDS else "receive"
        for topic in channels
    }


def test_the_topics_of_offers_fit_their_address() -> None:
    channel = asyncapi()["channels"]["offers"]
    assert channel["address"] == "offers.{channel}"
    assert list(channel["parameters"]) == ["channel"]
    prefix = channel["address"].removesuffix("{channel}")
    assert CONTROL_TOPIC.startswith(prefix)
    assert CONTROL_TOPIC.removeprefix(prefix) not in get_args(ContactChannel)
