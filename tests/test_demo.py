"""The demo: the same run whatever the timing, clean endings, and tallies that add up."""

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import child_processes
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from features.records import ENCODER, Alert, Offer, Outcome, Reason, TrainingExample, Versions
from millrace.board import ANSWERED_AFTER_MS, Board, Tally
from millrace.demo import Demo, DemoSettings
from millrace.demo_summary import summary_view
from millrace.live import Pulse, printable, screen_lines
from millrace.picture import svg_of
from millrace.traffic import Traffic, TrafficError
from replay.simulator import SimulatorSettings
from streams.emissions import Decisions, Emission, Output
from streams.policy_files import read_policy
from streams.store import MemoryStore

SIMULATION = SimulatorSettings(customer_count=150, day_count=40, seed=3, fraud_rate=0.02)
SMALL = SimulatorSettings(customer_count=20, day_count=5)
START_MS = SIMULATION.start_ms
VERSIONS = Versions(policy="p", models={"fraud": 1})
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "bytecode"


def played(play_s: float) -> dict[str, object]:
    """Play the simulation within `play_s`, or as fast as it goes; return all but the timing."""
    demo = Demo(DemoSettings(SIMULATION, play_s), read_policy(), MemoryStore(), Console(quiet=True))
    with Traffic(SIMULATION) as traffic:
        demo.run(traffic)
    told = demo.as_dict()
    latency_us = told.pop("latency_us")
    assert 0 < latency_us["p50"] <= latency_us["p99"] <= latency_us["p999"]
    assert told.pop("wall_s") > 0
    assert told.pop("checkpoints") > 0
    return told


def test_the_speed_of_the_play_changes_nothing() -> None:
    flat_out, leisurely = played(0.001), played(3.0)
    assert flat_out == leisurely
    assert flat_out["complete"]
    assert flat_out["outcomes"]["seen"] > 0  # type: ignore[index]  # offers came back as answers
    assert flat_out["examples_learned"] > 0  # type: ignore[operator]
    assert flat_out["alerts"] > 0  # type: ignore[operator]


def going() -> bool:
    return True


def test_a_failure_of_the_simulator_reaches_the_user() -> None:
    offer = offer_of("a1", START_MS, customer="nobody")
    with Traffic(SMALL) as traffic, pytest.raises(TrafficError) as raised:
        for _ in traffic.hours(going):
            traffic.answer([offer])
    assert str(raised.value).startswith("the traffic simulator failed: ")
    assert "nobody" in str(raised.value)


def test_a_killed_simulator_reaches_the_user() -> None:
    with Traffic(SMALL) as traffic, pytest.raises(TrafficError, match="exit code -9"):
        for number, _ in enumerate(traffic.hours(going)):
            if number == 0 and traffic.pid is not None:
                os.kill(traffic.pid, signal.SIGKILL)
            traffic.answer([])


def test_traffic_ends_when_nobody_waits_for_it() -> None:
    with Traffic(SMALL) as traffic:
        pid = traffic.pid
        assert next(traffic.hours(going)).topics
        assert list(traffic.hours(lambda: False)) == []
    assert pid is not None and not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX"
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return found.stdout.strip()[:1] not in ("", "Z")


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return condition()


ORPHAN = """
from millrace.traffic import Traffic
from replay.simulator import SimulatorSettings
traffic = Traffic(SimulatorSettings(customer_count=20, day_count=5))
next(traffic.hours(lambda: True))
print(traffic.pid, flush=True)
input()
"""


def test_a_killed_demo_leaves_no_simulator_behind(bytecode: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_processes.environment(bytecode),
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.communicate()
    assert wait_for(lambda: not is_alive(pid))


def read_all(terminal: int, enough: Callable[[bytes], bool]) -> bytes:
    """Read a terminal until what came is enough, or until nobody writes to it any more."""
    told = b""
    while not enough(told):
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        told += part
    return told


def test_ctrl_c_ends_with_a_summary_and_gives_the_terminal_back(bytecode: Path) -> None:
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    before = termios.tcgetattr(theirs)
    environment = child_processes.environment(bytecode) | {"TERM": "xterm"}
    del environment["COLUMNS"]
    options = ["--customers", "50", "--days", "30", "--seconds", "600"]
    demo = subprocess.Popen(
        [sys.executable, "-m", "millrace", "demo", *options],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    told = read_all(terminal, lambda told: told.count(b"alerts (") >= 2)
    os.killpg(demo.pid, signal.SIGINT)  # a terminal sends it to the whole group
    rest = read_all(terminal, lambda told: b"where to look next" in told)
    assert demo.wait(PATIENCE_S) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    rest += read_all(terminal, lambda _: False)
    os.close(terminal)
    entered, left = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen of xterm
    assert told.count(entered) == 1 and rest.count(left) == 1
    assert b"\x1b[?25l" in told and b"\x1b[?25h" in rest  # the cursor
    assert b"until you stopped it" in rest[rest.index(left) :]
    assert b"Traceback" not in told + rest


COVERAGE = """
import sys
from millrace.demo import kernels_are_compiled, warm_up
from millrace.board import Board
from replay.simulator import Simulator, SimulatorSettings
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.policy_files import read_policy
from streams.store import MemoryStore

def compiled():
    places = ("features.kernels.", "online_models.kernels")
    modules = [m for name, m in sorted(sys.modules.items()) if name.startswith(places)]
    return {
        (m.__name__, name): len(kernel.signatures)
        for m in modules for name, kernel in sorted(vars(m).items()) if hasattr(kernel, "py_func")
    }

policy = read_policy()
warm_up(policy)
assert kernels_are_compiled()
warm = compiled()
settings = EmbeddedSettings(partition_count=1, batch_max_count=2000)
runtime = EmbeddedRuntime(policy, MemoryStore(), Board(), settings)
simulator = Simulator(SimulatorSettings(customer_count=400, day_count=25, seed=5))
records = [record for chunk in simulator.chunks() for record in chunk]
for start in range(0, len(records), 2000):
    topics, keys, _, values = zip(*records[start : start + 2000])
    runtime.submit(topics, keys, values)
runtime.close()
print(sum(warm.values()), [name for name, count in compiled().items() if warm.get(name) != count])
"""


def test_nothing_is_left_to_compile_after_the_warm_up(bytecode: Path) -> None:
    child = child_processes.start(["-c", COVERAGE], bytecode)
    out, error = child.communicate()
    count, late = out.split(maxsplit=1) if out else ("0", error)
    assert int(count) > 10
    assert late.strip() == "[]"


def alert_of(event_id: str, ts_ms: int) -> Alert:
    return Alert(
        alert_id=event_id, event_id=event_id, ts_ms=ts_ms, customer_id="c", risk="fraud",
        severity="high", action="decline", score=0.5, amount_minor=123_456_789, currency="EUR",
        reasons=(Reason(source="rule:r", text="a reason 多 of\nsome length " * 9, weight=1.0),),
        versions=VERSIONS,
    )  # fmt: skip


def offer_of(action_id: str, ts_ms: int, *, customer: str = "c", control: bool = False) -> Offer:
    return Offer(
        action_id=action_id, event_id=action_id, ts_ms=ts_ms, customer_id=customer,
        offer="savings_plan", channel="app_push", text_key="savings_plan",
        parameters={"suggested_monthly": 250}, deliver_from_ms=ts_ms, valid_until_ms=ts_ms + 1,
        propensity=0.9, explored=False, control=control, why=("a salary arrived " * 9,), lost=(),
        versions=VERSIONS,
    )  # fmt: skip


def output_of(rows: list[tuple[str, int, int]], emissions: list[Emission]) -> Output:
    """Decisions on (event id, amount, action code), a minute apart."""
    count = len(rows)
    decisions = Decisions(
        event_ids=[row[0] for row in rows],
        sequence=np.arange(count),
        ts_ms=START_MS + 60_000 * np.arange(count),
        customers=np.zeros(count, np.int64),
        cards=np.zeros(count, np.int64),
        amounts_minor=np.array([row[1] for row in rows]),
        scores=np.zeros(count),
        actions=np.array([row[2] for row in rows], np.uint8),
        rule_hits=np.zeros((count, 0), np.bool_),
        rule_ids=(),
        policy_version="p",
        model_versions="fraud:7",
    )
    example = TrainingExample(
        model="fraud", event=1, ts_ms=START_MS, matured_ms=START_MS, fraud=True, weight=1.0,
        features=[],
    )  # fmt: skip
    return Output(emissions, [decisions], [example], record_count=count + 2, dead_letter_count=1)


def board_of(*outputs: Output) -> Board:
    board = Board()
    board.take_truth({"f1": "mule", "f2": "mule", "f3": "gang", "later": "gang"}, {})
    for output in outputs:
        board.write(output.emissions)
        board.observe(output)
    return board


def first_output(*, made: int = 1) -> Output:
    emissions = [Emission("alerts", "c", ENCODER.encode(alert_of(name, START_MS)))
                 for name in ("f1", "g2", "f3")]  # fmt: skip
    for number in range(made):
        offer = offer_of(f"a{number}", START_MS)
        emissions.append(Emission("offers.app_push", "c", ENCODER.encode(offer)))
    held = offer_of("held", START_MS, control=True)
    emissions.append(Emission("offers.control", "c", ENCODER.encode(held)))
    rows = [("f1", 500, 3), ("f2", 40, 0), ("g1", 7, 0), ("g2", 9, 1), ("f3", 1_000, 1)]
    return output_of(rows, emissions)


def test_the_board_counts_what_was_caught_and_missed() -> None:
    board = board_of(first_output())
    assert (board.caught, board.missed) == (Tally(2, 1_500), Tally(1, 40))
    assert board.false_alarms == Tally(1, 9)
    mule, gang = board.by_scenario["mule"], board.by_scenario["gang"]
    assert (mule.caught, mule.missed) == (Tally(1, 500), Tally(1, 40))
    assert (gang.caught, gang.missed) == (Tally(1, 1_000), Tally(0, 0))
    assert (board.record_count, board.decided_count, board.dead_letter_count) == (7, 5, 1)
    assert (board.alert_count, board.learned_count, board.model_versions) == (3, 1, "fraud:7")
    assert board.event_ms == START_MS + 4 * 60_000
    assert (board.offers_made["savings_plan"], board.control_count) == (1, 1)
    assert [offer.action_id for offer in board.take_offers()] == ["a0", "held"]
    assert board.take_offers() == []


def test_the_hash_sees_contents_and_not_how_they_were_cut() -> None:
    rows = [("f1", 500, 3), ("g1", 7, 0)]
    alerts = [Emission("alerts", "c", ENCODER.encode(alert_of("f1", START_MS)))]
    whole = board_of(output_of(rows, alerts)).emissions_sha256()
    assert (
        board_of(output_of(rows[:1], alerts), output_of(rows[1:], [])).emissions_sha256() == whole
    )
    assert (
        board_of(output_of(rows[:1], []), output_of(rows[1:], alerts)).emissions_sha256() == whole
    )
    other_action = [("f1", 500, 2), ("g1", 7, 0)]
    assert board_of(output_of(other_action, alerts)).emissions_sha256() != whole
    assert board_of(output_of(rows, [])).emissions_sha256() != whole


def test_uplift_compares_those_who_had_time_to_answer() -> None:
    """Of 40 contacted 10 bought, of 20 held back 2: 25 % against 10 %."""
    board = Board()
    offers = [offer_of(f"t{n}", START_MS) for n in range(40)]
    offers += [offer_of(f"c{n}", START_MS, control=True) for n in range(20)]
    late = [offer_of(f"late{n}", START_MS + 1) for n in range(50)]
    board.write([Emission("offers.sms", "c", ENCODER.encode(offer)) for offer in offers + late])
    board.take_truth({}, {offer.action_id: 0.125 for offer in offers})
    board.event_ms = START_MS + ANSWERED_AFTER_MS - 1
    assert board.uplift() is None
    board.event_ms = START_MS + ANSWERED_AFTER_MS
    for action_id in [*(f"t{n}" for n in range(10)), "c0", "c1", "late0", "unknown"]:
        for result in ("seen", "converted"):
            board.take_outcome(
                Outcome(action_id=action_id, ts_ms=START_MS, customer_id="c", result=result)
            )
    uplift = board.uplift()
    assert uplift is not None
    assert (uplift.treated_count, uplift.control_count) == (40, 20)
    assert (uplift.treated_rate, uplift.control_rate, uplift.true) == (0.25, 0.1, 0.125)
    assert uplift.measured == pytest.approx(0.15)
    # 0.25 * 0.75 / 40 + 0.1 * 0.9 / 20 = 0.0091875
    assert uplift.margin == pytest.approx(1.96 * 0.0091875**0.5)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (50, 14)])
@pytest.mark.parametrize("made", [0, 60])
def test_the_screen_fits(width: int, height: int, made: int) -> None:
    board = board_of(first_output(made=made)) if made else Board()
    pulse = Pulse(0.4, 3_712.0, 1.25, 12.5, 123.0)
    lines = screen_lines(board, pulse, width, height)
    texts = ["".join(text for text, _ in line) for line in lines]
    assert len(texts) == height
    assert {cell_len(text) for text in texts} == {width}
    assert all(text.isprintable() for text in texts)
    assert [text[0] + text[-1] for text in texts if text[0] != "│"] == ["╭╮", "├┤", "├┤", "╰╯"]
    shown = "\n".join(texts)
    assert "3,712 a second" in shown
    assert "latency p50 1.2  p99 12.5  p99.9 123.0 ms" in shown
    assert f"alerts ({3 if made else 0})" in shown
    if made:
        assert "fraud stopped 15 of 15 EUR" in shown  # 1,500 of 1,540 cents
        assert "savings plan" in shown and "decline" in shown


def test_the_picture_is_sound_and_loads_nothing() -> None:
    board = board_of(first_output(made=3))
    pulse = Pulse(1.0, 3_712.0, 1.25, 12.5, 123.0)
    parts = (
        printable(screen_lines(board, pulse, 118, 34)),
        summary_view(board, pulse, 45.0, "<end>"),
    )
    text = svg_of(parts, 118, "a title")
    words = [element.text for element in ElementTree.fromstring(text).iter() if element.text]
    for word in ("a title", "alerts (3)", "decline", "savings plan", "<end>", "where to look next"):
        assert word in words
    assert re.findall('https?://[^ "]*', text) == ["http://www.w3.org/2000/svg"]  # its name space
