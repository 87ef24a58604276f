"""The demo's traffic: a simulator in a process of its own, so that it costs the engine no time.

The two sides take turns by count, never by time. Hour h of the traffic is made after the offers of
hour h - AHEAD_COUNT were answered, whatever the speed of either side: the same settings give the
same bytes.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from types import TracebackType

import msgspec
from msgspec import Struct

from features.errors import MillraceError
from features.records import Offer
from replay.simulator import Simulator, SimulatorSettings
from replay.source_record import SourceRecord

AHEAD_COUNT = 4  # hours made ahead: about 0.1 s of a demo, more than the longest pause seen
PATIENCE_S = 0.1  # how often who waits for traffic asks whether to go on waiting
END_TIMEOUT_S = 5.0


class TrafficError(MillraceError):
    """The process that makes the traffic has failed; the message tells why."""


class Hour(Struct, tag="hour", array_like=True):
    """An hour of traffic as columns, in order of time, with what is newly true.

    `frauds` maps event ids to scenarios; `uplifts` maps the action ids of the offers answered
    before this hour to the true effect of contacting their customers.
    """

    topics: list[str]
    keys: list[str]
    ts_ms: list[int]
    values: list[bytes]
    frauds: dict[str, str]
    uplifts: dict[str, float]


class _End(Struct, tag="end", array_like=True):
    """Nothing follows: the simulated days are over."""


class _Failure(Struct, tag="failure", array_like=True):
    """What went wrong on the other side."""

    text: str


_MESSAGE = msgspec.msgpack.Decoder(Hour | _End | _Failure)
_OFFERS = msgspec.msgpack.Decoder(list[Offer])
_ENCODER = msgspec.msgpack.Encoder()


class Traffic:
    """The near end: yields hours, sends offers. Use it as a context manager.

    The far end ends with this process, however that ends: it reads from a pipe that nobody else
    holds. A thread takes in what comes, so that neither side can wait for the other to read.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        context = get_context("spawn")  # a fork would copy this process's threads and heap
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_make_traffic, args=(theirs, settings), name="millrace traffic", daemon=True
        )
        with _deaf_to_interrupts():
            self._process.start()
        theirs.close()
        self._arrived: SimpleQueue[bytes | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._receive, name="traffic", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """The process id of the far end."""
        return self._process.pid

    def __enter__(self) -> "Traffic":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def hours(self, going: Callable[[], bool]) -> Iterator[Hour]:
        """Yield hour after hour, until the end or until `going` says no.

        Call `answer` once for each hour before asking for the next one. Raises TrafficError.
        """
        while going():
            try:
                message = self._arrived.get(timeout=PATIENCE_S)
            except Empty:
                continue
            match self._understood(message):
                case Hour() as hour:
                    yield hour
                case _End():
                    return
                case _Failure(text):
                    raise TrafficError(f"the traffic simulator failed: {text}")

    def answer(self, offers: Sequence[Offer]) -> None:
        """Send the offers of one hour to the customers; an empty list counts too."""
        with suppress(ConnectionError):  # why it is gone stands in the queue: `hours` raises it
            self._pipe.send_bytes(_ENCODER.encode(offers))

    def close(self) -> None:
        """End the far end; may be called twice."""
        self._process.terminate()
        self._process.join(END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._reader.join()
        self._pipe.close()

    def _understood(self, message: bytes | None) -> Hour | _End | _Failure:
        if message is not None:
            found: Hour | _End | _Failure = _MESSAGE.decode(message)
            return found
        self._process.join(END_TIMEOUT_S)
        return _Failure(f"its process ended early, exit code {self._process.exitcode}")

    def _receive(self) -> None:
        try:
            while True:
                self._arrived.put(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self._arrived.put(None)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started in here does not hear Ctrl-C: it is this process that ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; `_make_traffic` sets its own
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _FailureReport:
    """Tells the near end what the block raised, whatever it was."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None or isinstance(error, EOFError | ConnectionError):
            return True  # the near end is gone, and with it whoever would want to know
        if not isinstance(error, Exception):
            return False
        name = "" if isinstance(error, MillraceError) else f"{type(error).__name__}: "
        with suppress(ConnectionError):
            self._pipe.send_bytes(_ENCODER.encode(_Failure(f"{name}{error}")))
        return True


def _make_traffic(pipe: Connection, settings: SimulatorSettings) -> None:
    """Run in the other process, until it is over or the near end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _FailureReport(pipe):
        simulator = Simulator(settings)
        told_count = 0
        uplifts: dict[str, float] = {}
        for number, records in enumerate(simulator.chunks(), start=1):
            frauds = dict(islice(simulator.truth.fraud.items(), told_count, None))
            told_count += len(frauds)
            pipe.send_bytes(_ENCODER.encode(_hour(records, frauds, uplifts)))
            uplifts = _answered(pipe, simulator) if number >= AHEAD_COUNT else {}
        pipe.send_bytes(_ENCODER.encode(_End()))
        while True:  # until the near end closes: what it still sends must not fail
            pipe.recv_bytes()


def _hour(records: list[SourceRecord], frauds: dict[str, str], uplifts: dict[str, float]) -> Hour:
    topics, keys, ts_ms, values = map(list, zip(*records, strict=True))
    return Hour(topics, keys, ts_ms, values, frauds, uplifts)


def _answered(pipe: Connection, simulator: Simulator) -> dict[str, float]:
    """Let the customers answer the offers of one hour; return the truth about these offers."""
    uplifts = {}
    for offer in _OFFERS.decode(pipe.recv_bytes()):
        simulator.answer(offer)
        uplift = simulator.truth.uplift(offer.customer_id, offer.offer, offer.channel)
        uplifts[offer.action_id] = uplift
    return uplifts
