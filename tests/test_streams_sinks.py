"""One suite for every sink, then what is each one's own."""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.records import OUTPUT_RECORDS
from streams.emissions import Emission
from streams.sinks import FanOut, JsonLinesSink, MemorySink, Sink, SinkError, topic_family

ReadBack = Callable[[], dict[str, list[bytes]]]
Make = Callable[[Path], tuple[Sink, ReadBack]]


def memory(_: Path) -> tuple[Sink, ReadBack]:
    sink = MemorySink()

    def read_back() -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for topic, emissions in sink.by_topic.items():
            assert {emission.topic for emission in emissions} == {topic}
            found[topic] = [emission.value for emission in emissions]
        return found

    return sink, read_back


def json_lines(directory: Path) -> tuple[Sink, ReadBack]:
    sink = JsonLinesSink(directory, include=["training"])

    def read_back() -> dict[str, list[bytes]]:
        texts = {path.stem: path.read_bytes() for path in sorted(directory.iterdir())}
        assert all(text.endswith(b"\n") for text in texts.values() if text)
        return {name: text.split(b"\n")[:-1] for name, text in texts.items() if text}

    return sink, read_back


def fan_out(directory: Path) -> tuple[Sink, ReadBack]:
    first, read_first = memory(directory)
    second, read_second = json_lines(directory)

    def read_back() -> dict[str, list[bytes]]:
        assert by_family(read_first()).keys() == read_second().keys()
        return read_second()

    return FanOut([first, second]), read_back


SINKS = {"memory": memory, "json_lines": json_lines, "fan_out": fan_out}
TOPICS = ["alerts", "offers", "tasks", "training", "dead-letters"]
EMISSIONS = st.lists(
    st.builds(
        Emission,
        st.sampled_from(TOPICS),
        st.text(max_size=3),
        st.integers(0, 99).map(lambda number: b'{"n":%d}' % number),
    )
)


def by_family(values: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for topic, some in values.items():
        found.setdefault(topic_family(topic), []).extend(some)
    return found


def expected(emissions: Sequence[Emission]) -> dict[str, list[bytes]]:
    return {
        topic: [emission.value for emission in emissions if emission.topic == topic]
        for topic in TOPICS
        if any(emission.topic == topic for emission in emissions)
    }


@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)
@given(emissions=EMISSIONS, cuts=st.lists(st.integers(0, 20)))
def test_everything_written_can_be_read_in_order_after_a_flush(
    make: Make, emissions: list[Emission], cuts: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        sink, read_back = make(Path(directory))
        edges = sorted({0, len(emissions), *(cut for cut in cuts if cut < len(emissions))})
        for start, stop in itertools.pairwise(edges):
            sink.write(emissions[start:stop])
        sink.write([])
        sink.flush()
        assert read_back() == expected(emissions)
        sink.close()
        assert read_back() == expected(emissions)


@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)
def test_a_closed_sink_takes_nothing(make: Make, tmp_path: Path) -> None:
    sink, read_back = make(tmp_path)
    alert = Emission("alerts", "CU1", b"{}")
    sink.write([alert])
    sink.close()
    sink.close()
    assert read_back() == {"alerts": [b"{}"]}
    with pytest.raises(SinkError, match="is closed"):
        sink.write([alert])
    with pytest.raises(SinkError, match="is closed"):
        sink.flush()
    assert read_back() == {"alerts": [b"{}"]}


@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)
def test_every_output_topic_is_known(make: Make, tmp_path: Path) -> None:
    sink, read_back = make(tmp_path)
    for topic in OUTPUT_RECORDS:
        sink.write([Emission(topic, "k", b"{}")])
    sink.flush()
    assert read_back() == {topic: [b"{}"] for topic in OUTPUT_RECORDS}


def test_json_lines_files_are_there_from_the_start_and_training_only_if_asked(
    tmp_path: Path,
) -> None:
    sink = JsonLinesSink(tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "alerts.jsonl", "dead-letters.jsonl", "drift.jsonl", "model-promotions.jsonl",
        "model-refusals.jsonl", "model-reports.jsonl", "offers.jsonl", "tasks.jsonl",
    ]  # fmt: skip
    sink.write([Emission("training", "", b"{}")])
    sink.close()
    assert all(not path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_offers_of_all_channels_share_a_file_in_order(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path)
    sink.write(
        [
            Emission("offers.sms", "CU1", b"1"),
            Emission("alerts", "CU1", b"2"),
            Emission("offers.app_push", "CU1", b"3"),
            Emission("offers.sms", "CU1", b"4"),
        ]
    )
    sink.close()
    assert (tmp_path / "offers.jsonl").read_bytes() == b"1\n3\n4\n"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Emission("alerst", "k", b"{}"), "got 'alerst'; did you mean `alerts`"),
        (Emission("alerts.sms", "k", b"{}"), "got 'alerts.sms'"),
        (Emission("alerts", "k", b'{\n"a":1}'), "alerts: expected JSON on one line"),
    ],
)
def test_a_bad_emission_refuses_the_whole_write(
    tmp_path: Path, bad: Emission, message: str
) -> None:
    sink = JsonLinesSink(tmp_path)
    with pytest.raises(SinkError, match=message):
        sink.write([Emission("tasks", "k", b"{}"), bad, Emission("tasks", "k", b"{}")])
    sink.close()
    assert all(not path.read_bytes() for path in tmp_path.iterdir())


def test_an_unknown_topic_to_include_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="did you mean `training`"):
        JsonLinesSink(tmp_path, include=["trainings"])


@pytest.mark.parametrize("torn", [b"", b'{"n":3', b"x" * 200_000])
def test_a_fresh_sink_empties_the_files_and_a_resumed_one_goes_on(
    tmp_path: Path, torn: bytes
) -> None:
    path = tmp_path / "alerts.jsonl"
    whole = b'{"n":1}\n{"n":2}\n' * 10_000  # more than is looked at in one piece
    path.write_bytes(whole + torn)
    (tmp_path / "tasks.jsonl").write_bytes(torn)
    resumed = JsonLinesSink(tmp_path, resume=True)
    resumed.write([Emission("alerts", "k", b'{"n":3}')])
    resumed.close()
    assert path.read_bytes() == whole + b'{"n":3}\n'
    assert (tmp_path / "tasks.jsonl").read_bytes() == b""
    JsonLinesSink(tmp_path).close()
    assert path.read_bytes() == b""


class BrokenSink(MemorySink):
    """A sink whose other end is gone."""

    def write(self, emissions: Sequence[Emission]) -> None:
        raise SinkError("the other end is gone")

    def close(self) -> None:
        raise SinkError("could not be closed")


def test_a_fan_out_stops_at_the_sink_that_fails_and_closes_all() -> None:
    before, after = MemorySink(), MemorySink()
    sink = FanOut([before, BrokenSink(), after])
    with pytest.raises(SinkError, match="the other end is gone"):
        sink.write([Emission("alerts", "k", b"{}")])
    assert (list(before.by_topic), list(after.by_topic)) == (["alerts"], [])
    with pytest.raises(SinkError, match="could not be closed"):
        sink.close()
    for one in (before, after):
        with pytest.raises(SinkError, match="is closed"):
            one.flush()
