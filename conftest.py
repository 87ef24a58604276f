"""What holds for every test: Hypothesis profiles, where data is, and that no skip goes unseen.

A test marked `redis` or `kafka` may be skipped on a developer's machine; with CI=true such a skip
is a failure. A test marked `data`, or `data("handbook")`, is skipped where the public evaluation
data (or that folder of it) is absent, in CI too. The end of a run lists what was skipped and why.
"""

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
DATA_DIR = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parent.parent / "shared" / "data"))
SERVICES = ("redis", "kafka")

# Wall-clock deadlines fail on a busy machine without a fault in the code. In CI the examples are
# derived from the test itself, so that a red run can be repeated.
settings.register_profile("developer", deadline=None, print_blob=True)
settings.register_profile("continuous", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("continuous" if IN_CI else "developer")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of the public evaluation data; only for tests marked `data`."""
    return DATA_DIR


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("data"):
        for folder in marker.args or (".",):
            if not (DATA_DIR / folder).is_dir():
                pytest.skip(f"the evaluation data is absent ({folder} of MILLRACE_DATA)")


def needs(item: pytest.Item, service: str) -> bool:
    """Whether this test is skipped without a service, as its marker or a fixture names it."""
    fixtures = getattr(item, "fixturenames", ())
    return bool(item.get_closest_marker(service)) or any(service in name for name in fixtures)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what needs Kafka in one of the processes that share the tests, beginning with it.

    One broker is enough for a small machine, and nobody waits for the slowest tests at the end.
    """
    for item in items:
        if needs(item, "kafka"):
            item.add_marker(pytest.mark.xdist_group("kafka"))
    items.sort(key=lambda item: not needs(item, "kafka"))


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a skipped test or module was skipped, without pytest's own prefix."""
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        service = next((service for service in SERVICES if needs(item, service)), None)
        if service and not item.get_closest_marker("data"):
            report.outcome = "failed"
            report.longrepr = f"With CI=true a test may not do without {service}: " + skip_reason(
                report
            )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        reason = skip_reason(report)
        if any(service in f"{collector.nodeid} {reason}".lower() for service in SERVICES):
            report.outcome = "failed"
            report.longrepr = f"With CI=true this module may not be skipped: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        report
        for report in terminalreporter.getreports("skipped")
        if not hasattr(report, "wasxfail")
    ]
    if not skipped:
        return
    terminalreporter.section(f"NOT RUN: {len(skipped)} skipped", sep="!", yellow=True, bold=True)
    reasons = Counter((skip_reason(report), report.nodeid.split("::")[0]) for report in skipped)
    for (reason, file), count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count:4} in {file}: {reason}", yellow=True)
