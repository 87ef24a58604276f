"""How a policy says that inputs are cut into bins: defaults, forms, and errors with their place."""

import pytest

from actions.policy import Policy
from features.errors import SourceError
from online_models.options import WARM_UP_COUNT, InputBins, ModelOptions
from streams.policy_files import BANK_POLICY, read_policy

BASE = """\
name: small
currency: EUR
entities: {customer: {key: customer_id, scope: local}}
models:
  - id: fraud
    pipeline: binned_logistic
    publish_every: 1h
    crosses: [[amount, count], [hour, count]]
    inputs:
      amount: {value: amount, reason: size}
      count: {value: customer.count("1d"), reason: many, bins: {width: 1, up_to: 3}}
      hour: {value: hour(), reason: late, bins: {edges: [5.5, 6, 22]}}
"""


def parse(text: str) -> Policy:
    return Policy.parse({"p.yaml": text})


def test_what_is_said_and_what_is_left_out() -> None:
    (model,) = parse(BASE).models
    assert model.options == ModelOptions(
        bins=(("count", InputBins((0.0, 1.0, 2.0, 3.0))), ("hour", InputBins((5.5, 6.0, 22.0)))),
        crosses=(("amount", "count"), ("hour", "count")),
        warm_up_count=WARM_UP_COUNT,
    )
    learned = BASE.replace("reason: size", "reason: size, bins: {quantiles: 4, tail: 0}")
    assert dict(parse(learned).models[0].options.bins)["amount"] == InputBins((), 4, 0, 0.95)
    warm = parse(BASE.replace("    crosses:", "    warm_up: 7\n    crosses:")).models[0].options
    assert warm.warm_up_count == 7


@pytest.mark.parametrize(
    ("old", "new", "needle", "expected"),
    [
        ("[hour, count]]", "[hour, counts]]", "counts", "did you mean `count`"),
        ("[hour, count]]", "[hour]]", "[hour]]", "two inputs, got 1"),
        ("[hour, count]]", "[count, amount]]", "[count, amount]]", "each pair once"),
        ("[hour, count]]", "[hour, hour]]", "hour]]", "each input once"),
        ("width: 1,", "", "{ up_to", "bins of equal width with key `width`"),
        ("width: 1", "width: 0", "0, up_to", "width: a number"),
        ("up_to: 3", "up_to: 1000", "1000", "less than 1000 bins"),
        ("width: 1", "widht: 1", "widht", "did you mean `width`"),
        ("width: 1", "quantiles: 1", "{quantiles", "or width, up_to; or edges"),
        ("{edges: [5.5, 6, 22]}", "{}", "{}", "or edges, got no key"),
        ("[5.5, 6, 22]", "[5.5, 5.5]", "[5.5", "numbers, ascending, got 5.5, 5.5"),
        ("[5.5, 6, 22]", "[]", "[]", "an empty list"),
        ("{edges: [5.5, 6, 22]}", "{tail_from: 0}", "0}}", "tail_from: a number of at least"),
        ("    crosses", "    warm_up: 0\n    crosses", "0\n", "warm_up: an integer from 1"),
    ],
)
def test_errors_say_where(old: str, new: str, needle: str, expected: str) -> None:
    text = BASE.replace(old, new)
    with pytest.raises(SourceError, match=expected) as caught:
        parse(text)
    before = text[: text.index(needle)]
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    assert (caught.value.line, caught.value.column) == place


def test_too_many_bins_are_refused_before_they_take_memory() -> None:
    wide = "{quantiles: 500, tail: 490}"
    text = BASE.replace("{width: 1, up_to: 3}", wide).replace("{edges: [5.5, 6, 22]}", wide)
    with pytest.raises(SourceError, match=r"p\.yaml:8:14: expected at most 100000 bins in all"):
        parse(text)


def test_only_pipelines_with_bins_take_bins() -> None:
    policy = parse(BASE.replace("binned_logistic", "scaled_logistic"))
    with pytest.raises(SourceError, match=r"p\.yaml:8:14: .*only with pipeline binned_logistic"):
        policy.check_pipelines(["scaled_logistic", "binned_logistic"], ["binned_logistic"])
    parse(BASE).check_pipelines(["binned_logistic"], ["binned_logistic"])


def test_bins_are_part_of_the_version() -> None:
    version = parse(BASE).version
    assert parse("# first\n" + BASE).version == version
    assert parse(BASE.replace("up_to: 3", "up_to: 4")).version != version
    assert parse(BASE.replace("[hour, count]", "[hour, amount]")).version != version


def test_the_handbooks_policy_can_be_read() -> None:
    policy = read_policy(BANK_POLICY.parent / "handbook")
    assert policy.models[0].pipeline == "binned_logistic"
    assert len(policy.models[0].options.crosses) == 6
