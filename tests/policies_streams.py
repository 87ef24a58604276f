"""The bank's policy with challengers, calibration and drift, small enough for short streams."""

import textwrap

from actions.policy import Policy
from streams.policy_files import BANK_POLICY

CHALLENGERS = """
    challengers:
      - pipeline: scaled_logistic
        id: lean
        inputs: [log_amount, night]
      - pipeline: scaled_logistic
        id: same
"""
JUDGING = """
    report: {every: 1h, over: 100, alerts_per_day: 5}
    drift: {every: 1h, response: reset}
    calibration: sigmoid
"""


def bank_with(model: str) -> Policy:
    """Return the bank's policy with more keys of its model."""
    return Policy.parse(bank_files(model))


def bank_files(model: str) -> dict[str, str]:
    """Return the texts of the bank's policy with more keys of its model."""
    files = {path.name: path.read_text("utf-8") for path in BANK_POLICY.glob("*.yaml")}
    head = "    publish_every: 1h\n"
    assert files["models.yaml"].count(head) == 1
    more = textwrap.dedent(model).strip("\n")
    files["models.yaml"] = files["models.yaml"].replace(
        head, head + textwrap.indent(more, "    ") + "\n"
    )
    return files
