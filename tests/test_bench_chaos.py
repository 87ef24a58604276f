"""A short version of `make chaos`, and that each of its checks can fail."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.chaos.faults import FAULTS
from bench.chaos.ledger import Ledger, WrongError
from bench.chaos.mutants import MUTANTS
from bench.chaos.page import page
from bench.chaos.proxy import CommitCutter, is_commit
from bench.chaos.rounds import BANKS, BLOCK_COUNT, Chaos, Plan, plans
from bench.chaos.servers import Servers
from streams.private_kafka import PrivateKafka
from streams.redis_store import RedisStore
from streams.store import PartitionChange, StoreUnavailableError

ROOT = Path(__file__).parent.parent
SHORT = (
    "kill worker",
    "restart redis",
    "cut request",
    "zombie",
    "cut answer",
    "restart broker",
)


@pytest.fixture
def servers(compiled: None, kafka: PrivateKafka) -> Iterator[Servers]:
    """A broker and a Redis of their own: faults are made on them. `kafka` says there can be one."""
    with closing(Servers()) as made:
        yield made


def play(
    servers: Servers, bank: str, faults: tuple[str, ...], seed: int
) -> list[dict[str, object]]:
    chosen = [Plan(seed, number, bank, fault, number) for number, fault in enumerate(faults)]
    with closing(Chaos(servers, seed)) as chaos:
        return list(chaos.play(chosen))


def test_faults_leave_no_trace(servers: Servers) -> None:
    rows = play(servers, "local entities", SHORT, seed=5)
    assert [row["fault"] for row in rows] == list(SHORT)
    assert servers.cutter.cut_count >= 2


def test_a_plan_follows_from_the_seed_and_makes_each_fault_on_each_bank() -> None:
    count = BLOCK_COUNT * len(BANKS)
    drawn = [plan for plan, _ in zip(plans(7), range(count), strict=False)]
    assert drawn == [plan for plan, _ in zip(plans(7), range(count), strict=False)]
    assert {(plan.bank, plan.fault) for plan in drawn} == {(b, f) for b in BANKS for f in FAULTS}
    assert [plan.number for plan in drawn] == list(range(count))
    for bank in BANKS:
        assert [p.slice_index for p in drawn if p.bank == bank] == list(range(BLOCK_COUNT))
    assert drawn[0].draw().random() == drawn[0].draw().random()
    other = [plan for plan, _ in zip(plans(8), range(count), strict=False)]
    assert [plan.fault for plan in other] != [plan.fault for plan in drawn]


def decision(event_id: str, action: str, score: float = 0.0) -> bytes:
    return json.dumps({"event_id": event_id, "action": action, "score": score}).encode()


def alert(event_id: str, customer_id: str = "C1") -> bytes:
    record = {"alert_id": f"A{event_id}", "event_id": event_id, "customer_id": customer_id}
    return json.dumps(record).encode()


def offer(action_id: str, customer_id: str = "C1") -> bytes:
    return json.dumps({"action_id": action_id, "customer_id": customer_id}).encode()


def ledger(*, exact: bool) -> Ledger:
    """One allowed payment, one alert and one offer, as expected; nothing has come out yet."""
    made = Ledger(exact=exact)
    made.expect(
        {
            "decisions": [decision("1", "allow"), decision("2", "hold")],
            "alerts": [alert("2")],
            "offers": [offer("O1", "C2")],
        }
    )
    return made


@pytest.mark.parametrize("exact", [True, False])
def test_repeats_are_counted_and_the_rest_is_as_expected(exact: bool) -> None:
    book = ledger(exact=exact)
    book.find({"decisions": [decision("1", "allow")] * 2 + [decision("2", "hold")]})
    book.find({"alerts": [alert("2")], "offers": [offer("O1", "C2")] * 3})
    book.check()
    assert dict(book.repeats) == {"decisions": 1, "alerts": 0, "offers": 2}
    assert book.differing_share() == 0.0


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("decisions", r"decisions: lost: 1, such as \('2',\)"),
        ("alerts", r"alerts: lost: 1"),
        ("offers", r"offers: lost: 1, such as \('O1',\)"),
    ],
)
def test_what_is_lost_is_told(exact: bool, lost: str, message: str) -> None:
    book = ledger(exact=exact)
    lines = {
        "decisions": [decision("1", "allow"), decision("2", "hold")],
        "alerts": [alert("2")],
        "offers": [offer("O1", "C2")],
    }
    lines[lost].pop()
    book.find(lines)
    with pytest.raises(WrongError, match=message):
        book.check()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("family", "line", "message"),
    [
        ("decisions", decision("3", "allow"), "decisions: never to come out"),
        ("alerts", alert("1"), "alerts: never to come out"),
        ("offers", offer("O2", "C2"), "offers: never to come out"),
    ],
)
def test_what_should_not_have_come_out_is_told(
    exact: bool, family: str, line: bytes, message: str
) -> None:
    book = ledger(exact=exact)
    book.find({"decisions": [decision("1", "allow"), decision("2", "hold")]})
    book.find({"alerts": [alert("2")], "offers": [offer("O1", "C2")]})
    book.find({family: [line]})
    with pytest.raises(WrongError, match=message):
        book.check()


def test_a_repeat_that_differs_is_told_where_all_is_exact() -> None:
    book = ledger(exact=True)
    book.find({"decisions": [decision("1", "allow"), decision("2", "hold")]})
    book.find({"alerts": [alert("2")], "offers": [offer("O1", "C2")]})
    book.find({"decisions": [decision("1", "allow", 0.1)]})
    with pytest.raises(WrongError, match="decisions: expected the same bytes"):
        book.check()


def test_with_shared_entities_a_repeat_may_differ_and_offers_follow_alerts() -> None:
    book = ledger(exact=False)
    book.find({"decisions": [decision("1", "allow"), decision("1", "hold"), decision("2", "hold")]})
    book.find({"alerts": [alert("2")], "offers": [offer("O1", "C2")]})
    book.check()  # the alert of the first version of payment 1 may have been lost with it
    book.find({"alerts": [alert("1", "C3")]})
    book.find({"offers": [offer("O3", "C3")]})
    book.check()  # the customer of an unexpected alert may have other offers
    assert book.differing_share() == 0.0


def test_what_nobody_expects_is_told() -> None:
    with pytest.raises(WrongError, match="tasks: expected nothing"):
        ledger(exact=True).find({"tasks": [b"{}"]})


@pytest.mark.parametrize("of_answers", [False, True])
def test_a_checkpoint_is_cut_before_or_after_redis_has_it(
    redis_url: str, redis_prefix: str, of_answers: bool
) -> None:
    """And nothing else is: positions and loads get through while a cut is armed."""
    path = Path(redis_url.removeprefix("unix://"))
    if not path.is_socket():
        pytest.skip("needs a Redis on a Unix socket")
    with (
        closing(CommitCutter(path)) as cutter,
        closing(RedisStore(redis_url, redis_prefix)) as beside,
        closing(RedisStore(cutter.url, redis_prefix)) as store,
    ):
        epoch, _ = store.acquire("0")
        value = b"x" * 3_000_000  # more than one piece
        change = PartitionChange("0", epoch, {"events": (0, 5)}, [(b"key", 0, value)], [])
        (cutter.cut_answers if of_answers else cutter.cut_requests)(0.7)
        assert store.load([("0", b"key")]) == [None]
        assert store.position("0")[1] == {}
        with pytest.raises(StoreUnavailableError):
            store.commit([change])
        assert not cutter.is_armed
        assert beside.position("0")[1] == ({"events": 5} if of_answers else {})
        store.commit([change])
        assert beside.load([("0", b"key")]) == [value]
        assert beside.position("0")[1] == {"events": 5}
        assert cutter.cut_count == 1


def test_only_checkpoints_are_cut() -> None:
    assert is_commit(b"*9\r\n$7\r\nEVALSHA\r\n$40\r\n" + b"0" * 40)
    assert not is_commit(b"*2\r\n$4\r\nMGET\r\n$7\r\nEVALSHA\r\n")
    assert not is_commit(b"\r\n$7\r\nEVALSHA\r\n")


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    results, mutants = (
        json.loads((ROOT / "bench/results" / name).read_text(encoding="utf-8"))
        for name in ("chaos.json", "chaos_mutants.json")
    )
    assert (ROOT / "docs/chaos.md").read_text(encoding="utf-8") == page(results, mutants)
    assert results["fault"] is None
    assert len(results["rounds"]) >= 100
    assert {row["fault"] for row in results["rounds"]} == set(FAULTS)
    assert {mutant["name"] for mutant in mutants["mutants"]} == set(MUTANTS)
    assert all(mutant["by"] for mutant in mutants["mutants"])
