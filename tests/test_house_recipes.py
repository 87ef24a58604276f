"""The examples in CONTRIBUTING.md are true: each is tried on the bank policy as it stands."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import yaml

from actions.policy import Policy
from features.expressions import ExpressionText, compile_plan
from features.hashing import IdHasher
from features.records import ContactChannel, Record, Transaction
from online_models import catalog
from streams.policy_files import BANK_POLICY

ROOT = Path(__file__).parent.parent
INPUTS = ("log_amount", "card_payments_1h")


def contributing() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", contributing(), flags=re.DOTALL)


def bank_files() -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in BANK_POLICY.glob("*.yaml")}


def compiled_outputs(policy: Policy, extra: dict[str, ExpressionText]) -> set[str]:
    plan = compile_plan({**policy.outputs(), **extra}, policy.declarations(IdHasher().one))
    return {*plan.before_models.outputs, *plan.after_models.outputs}


def test_rule_model_and_offer() -> None:
    files = bank_files()
    recipes = [block for block in blocks("yaml") if "inputs" not in yaml.safe_load(block)]
    assert len(recipes) == 5
    files |= {f"recipe_{k}.yaml": block for k, block in enumerate(recipes)}
    extra = {
        f"rule:named_{k}": ExpressionText(text, "CONTRIBUTING.md", 1, 1)
        for k, text in enumerate(("ratio > 3", 'customer.max(ratio, "14d") > 5'))
    }
    assert all(text.text.removesuffix(" > 5") in contributing() for text in extra.values())
    outputs = compiled_outputs(Policy.parse(files), extra)
    assert set(extra) <= outputs
    assert "rule:burst_of_small_payments" in outputs
    assert "reason:burst_of_small_payments:1" in outputs
    assert {f"model:careful_fraud:{name}" for name in INPUTS} <= outputs
    assert "model:binned_fraud:terminal_run" in outputs
    assert "offer:notice_account:parameter:amount" in outputs
    assert "trigger:large_income" in outputs


def test_feature() -> None:
    (recipe,) = [block for block in blocks("yaml") if "inputs" in yaml.safe_load(block)]
    policy = Policy.parse(bank_files())
    model = policy.models[0].name
    extra = {
        f"model:{model}:{name}": ExpressionText(entry["value"], "CONTRIBUTING.md", 1, 1)
        for name, entry in yaml.safe_load(recipe)["inputs"].items()
    }
    assert extra
    assert set(extra) <= compiled_outputs(policy, extra)


def test_model_pipeline() -> None:
    (recipe,) = [block for block in blocks("python") if "CatalogEntry" in block]
    namespace: dict[str, Any] = dict(vars(catalog))
    tree = ast.parse(recipe)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(tree, "CONTRIBUTING.md", "exec"), namespace)
    entry = eval(compile(ast.Expression(last.value), "CONTRIBUTING.md", "eval"), namespace)
    pipeline = entry.build(INPUTS)
    assert entry.compiled.reads(pipeline)
    learn = entry.learner(pipeline, INPUTS)
    learn([1.0, 2.0], True, 1.0)
    learn([2.0, 1.0], False, 1.0)
    again = entry.build(INPUTS)
    entry.restore(again, INPUTS, entry.save(pipeline, INPUTS))
    example = dict(zip(INPUTS, [0.5, 3.0], strict=True))
    assert again.predict_proba_one(example) == pipeline.predict_proba_one(example)


def test_a_channel_is_named_in_one_place() -> None:
    """Except for the simulator, whose customers prefer some, and the policies themselves."""
    (recipe,) = [block for block in blocks("python") if "ContactChannel" in block]
    known = get_args(ContactChannel)
    assert recipe.index("branch") < recipe.index("letter")
    assert all(f'"{channel}"' in recipe for channel in known)
    naming = [
        path.relative_to(ROOT).as_posix()
        for package in ("features", "online_models", "actions", "streams", "millrace")
        for path in sorted((ROOT / package).rglob("*.py"))
        if '"app_push"' in path.read_text(encoding="utf-8")
    ]
    assert naming == ["features/records.py"]


def test_readme_expressions_and_record() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (expressions,) = [
        block for block in re.findall(r"```\n(.*?)```", text, re.S) if "card." in block
    ]
    extra = {
        f"rule:readme_{k}": ExpressionText(line, "README.md", 1, 1)
        for k, line in enumerate(expressions.splitlines())
    }
    assert len(extra) == 7
    (named,) = re.findall(r"# (let ratio: .*)", expressions)
    files = bank_files() | {"let.yaml": named.replace("let ", "let:\n  ")}
    assert set(extra) <= compiled_outputs(Policy.parse(files), extra)
    (record,) = re.findall(r"```json\n(.*?)```", text, re.S)
    assert isinstance(msgspec.json.decode(record, type=Record), Transaction)
