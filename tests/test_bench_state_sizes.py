"""The page on bytes of state is the one that the policy and the stored format give."""

from pathlib import Path

from bench import state_sizes

PAGE = Path(__file__).parent.parent / "docs" / "state_sizes.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == state_sizes.page(), (
        "python -m bench.state_sizes > docs/state_sizes.md"
    )


def test_a_customers_bytes_by_hand() -> None:
    """A header of 40 bytes each, and rows; blocks of 16 columns of 64 bits for ten events."""
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:]
        for line in state_sizes.page().splitlines()
        if line.startswith("| ")
    }
    row_bytes, stored, *_ = (int(number.replace(",", "")) for number in rows["ip"][:2])
    assert row_bytes == 6 + 8 + 1 + 8  # time, event, label, customer
    assert stored == 40 + 10 * row_bytes
    assert rows["ip"][4] == f"{16 * (4 + 1) * 8:,}"  # and the partition
