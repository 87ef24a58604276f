"""Where emissions go. A sink is three methods; every sink passes one shared suite of tests."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO, Protocol

from features.errors import MillraceError, nearest_name
from features.records import OUTPUT_RECORDS
from streams.emissions import Emission

QUIET_TOPICS = frozenset({"training"})  # as many records as the input; written only when asked for
_BLOCK_BYTES = 65_536


class SinkError(MillraceError):
    """An emission that a sink can't take, or a sink that is closed."""


class Sink(Protocol):
    """Takes emissions in order. After `flush` returns, all that was written before is acknowledged.

    A runtime writes from one thread and flushes from another at the same time.
    """

    def write(self, emissions: Sequence[Emission]) -> None:
        """Take emissions; their order within a topic is kept. SinkError refuses them all."""

    def flush(self) -> None:
        """Return once everything written would survive the end of this process."""

    def close(self) -> None:
        """Flush and let go; may be called twice, `write` may not be called afterwards."""


class MemorySink:
    """Keeps emissions by topic, for tests and views."""

    def __init__(self) -> None:
        self.by_topic: dict[str, list[Emission]] = {}
        self._closed = False

    def write(self, emissions: Sequence[Emission]) -> None:
        """Keep emissions."""
        _check_open(self._closed, "MemorySink")
        for emission in emissions:
            self.by_topic.setdefault(emission.topic, []).append(emission)

    def flush(self) -> None:
        """Nothing waits here."""
        _check_open(self._closed, "MemorySink")

    def close(self) -> None:
        """Take no more; what was kept can still be read."""
        self._closed = True


class JsonLinesSink:
    """One file per output topic in `directory`: `alerts.jsonl`, `tasks.jsonl` and so on.

    All topics `offers.<channel>` go to `offers.jsonl`. Which topics there are is read from
    `features.records.OUTPUT_RECORDS`; those of QUIET_TOPICS are written only if `include` names
    them, and dropped otherwise. Each file is there from the start, empty if nothing comes.

    `resume=True` appends to what is there, after cutting off a last line that a crash left torn.
    `flush` hands everything to the operating system: it survives the process, not a power cut.
    """

    def __init__(
        self, directory: Path, *, include: Collection[str] = (), resume: bool = False
    ) -> None:
        for name in include:
            _check_known(name)
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        names = [name for name in OUTPUT_RECORDS if name not in QUIET_TOPICS or name in include]
        self._files: dict[str, BinaryIO] = {}
        with ExitStack() as undo:
            for name in names:
                self._files[name] = _open(directory / f"{name}.jsonl", resume)
                undo.callback(self._files[name].close)
            undo.pop_all()
        self._closed = False

    def write(self, emissions: Sequence[Emission]) -> None:
        """Write a line per emission. An unknown topic or a line break refuses them all."""
        _check_open(self._closed, f"JsonLinesSink({self.directory})")
        lines: dict[str, list[bytes]] = {}
        for topic, _, value in emissions:
            lines.setdefault(topic_family(topic), []).append(value)
        texts: dict[str, bytes] = {}
        for family, values in lines.items():
            _check_known(family)
            texts[family] = b"\n".join(values) + b"\n"
            if texts[family].count(b"\n") != len(values):
                raise SinkError(f"{family}: expected JSON on one line, got a line break in it")
        for family, text in texts.items():
            if family in self._files:
                self._files[family].write(text)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        _check_open(self._closed, f"JsonLinesSink({self.directory})")
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self._closed = True
        with ExitStack() as closing:
            for file in self._files.values():
                closing.callback(file.close)


class FanOut:
    """Gives every emission to several sinks, in their order.

    The first that fails stops it: those after it have not seen the emissions. A caller that
    writes them again repeats them to those before it, under the same ids.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._closed = False

    def write(self, emissions: Sequence[Emission]) -> None:
        """Write to each sink."""
        _check_open(self._closed, "FanOut")
        for sink in self._sinks:
            sink.write(emissions)

    def flush(self) -> None:
        """Flush each sink."""
        _check_open(self._closed, "FanOut")
        for sink in self._sinks:
            sink.flush()

    def close(self) -> None:
        """Close every sink, also when one of them fails; then raise that error."""
        self._closed = True
        with ExitStack() as closing:
            for sink in reversed(self._sinks):
                closing.callback(sink.close)


def topic_family(topic: str) -> str:
    """Return the name under which a topic's record is known: `offers.sms` -> `offers`."""
    family, _, channel = topic.partition(".")
    return family if channel and family == "offers" else topic


def _check_known(family: str) -> None:
    if family not in OUTPUT_RECORDS:
        nearest = nearest_name(family, OUTPUT_RECORDS)
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        raise SinkError(f"expected a topic of {', '.join(OUTPUT_RECORDS)}, got {family!r}{hint}")


def _check_open(closed: bool, name: str) -> None:
    if closed:
        raise SinkError(f"{name} is closed")


def _open(path: Path, resume: bool) -> BinaryIO:
    if not resume:
        return path.open("wb")
    file = path.open("a+b")
    file.truncate(_whole_lines_bytes(file))
    return file


def _whole_lines_bytes(file: BinaryIO) -> int:
    """Return where the last line break of a file ends, 0 where it has none."""
    end_bytes = file.seek(0, SEEK_END)
    while end_bytes > 0:
        start_bytes = max(0, end_bytes - _BLOCK_BYTES)
        file.seek(start_bytes)
        found = file.read(end_bytes - start_bytes).rfind(b"\n")
        if found >= 0:
            return start_bytes + found + 1
        end_bytes = start_bytes
    return 0
