"""No skip goes unseen, and in CI no service may be missing: `conftest.py` at the top."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HOUSE = Path(__file__).parent.parent / "conftest.py"
INI = """
[pytest]
addopts = -q --strict-markers
markers =
    redis: x
    kafka: x
    data: x
"""
TESTS = """
import pytest

@pytest.fixture
def redis_server():
    pytest.skip("no server by fixture")

@pytest.mark.redis
def test_marked():
    pytest.skip("no server by hand")

def test_by_fixture(redis_server):
    pass

@pytest.mark.kafka
@pytest.mark.skipif(True, reason="no broker")
def test_by_condition():
    pass

@pytest.mark.data("handbook")
def test_data(data_dir):
    raise AssertionError("runs without data")

@pytest.mark.redis
@pytest.mark.xfail(strict=True)
def test_expected_failure():
    raise AssertionError

@pytest.mark.redis
def test_passes():
    pass

def test_other_skip():
    pytest.skip("a reason of its own")
"""
MODULE = """
import pytest
pytest.importorskip("redis_server_that_nobody_has")
"""


def run_house(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str
) -> pytest.RunResult:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("MILLRACE_DATA", str(pytester.path / "nowhere"))
    pytester.makeini(INI)
    pytester.makeconftest(HOUSE.read_text(encoding="utf-8"))
    pytester.makepyfile(test_some=TESTS, test_module=MODULE)
    return pytester.runpytest_subprocess("--continue-on-collection-errors")


def test_a_developer_sees_every_skip(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_house(pytester, monkeypatch, ci="")
    result.assert_outcomes(passed=1, skipped=6, xfailed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*NOT RUN: 6 skipped*",
            "*1 in test_some.py: no server by hand",
            "*1 in test_some.py: no server by fixture",
            "*1 in test_some.py: no broker",
            "*1 in test_some.py: the evaluation data is absent (handbook of MILLRACE_DATA)",
            "*1 in test_module.py: could not import*",
        ]
    )
    assert "passed" in result.outlines[-1]


def test_in_ci_a_missing_service_is_a_failure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_house(pytester, monkeypatch, ci="true")
    result.assert_outcomes(passed=1, failed=1, errors=3, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines_random(
        [
            "With CI=true a test may not do without redis: no server by hand",
            "With CI=true a test may not do without redis: no server by fixture",
            "With CI=true a test may not do without kafka: no broker",
            "*With CI=true this module may not be skipped: could not import*",
            "*NOT RUN: 2 skipped*",
            "*1 in test_some.py: the evaluation data is absent (handbook of MILLRACE_DATA)",
            "*1 in test_some.py: a reason of its own",
        ]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
