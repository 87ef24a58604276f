"""The house style, checked on every file that is or may be committed."""

import ast
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from tidy_rules import PACKAGES, PYTHON_RULES, TEXT_RULES, Rule, Source
from tidy_units import ALLOWED, MARKS, UNITS, lacks_unit, named_numbers, numbers_carry_units

ROOT = Path(__file__).parent.parent
FILE_BYTES_MAX = 1 << 20


@cache
def repository_files() -> tuple[str, ...]:
    """Return the paths of all files that git tracks or would add; without git, all but caches."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        paths = {path for path in listed.stdout.split("\0") if path}
    except (OSError, subprocess.CalledProcessError):
        paths = set()
    if "pyproject.toml" not in paths:  # an unpacked archive, or a checkout that git doesn't trust
        paths = set(walked_files())
    return tuple(sorted(path for path in paths if (ROOT / path).is_file()))


def walked_files() -> list[str]:
    found = []
    for folder, children, files in os.walk(ROOT):
        children[:] = [
            child
            for child in children
            if (not child.startswith(".") or child == ".ci")
            and child not in {"__pycache__", "build", "dist", "out"}
            and not child.endswith(".egg-info")
        ]
        kept = (name for name in files if not name.endswith((".pyc", ".nbi", ".nbc")))
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in kept]
    return found


@cache
def text_sources() -> tuple[Source, ...]:
    """Return every file that is text; pictures and Parquet files are left out."""
    sources = []
    for path in repository_files():
        try:
            sources.append(Source(path, (ROOT / path).read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return tuple(sources)


@cache
def parsed() -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Return the Python files that this Python can read, and why it can't read the others."""
    sources, faults = [], []
    for source in text_sources():
        if source.path.endswith(".py"):
            try:
                assert source.tree is not None
                sources.append(source)
            except SyntaxError as error:
                faults.append(f"{source.path}:{error.lineno}: {error.msg}")
    return tuple(sources), tuple(faults)


def python_sources() -> tuple[Source, ...]:
    return parsed()[0]


def test_every_python_file_can_be_read() -> None:
    assert not parsed()[1]


def check(rule: Rule, sources: tuple[Source, ...]) -> None:
    findings = [finding for source in sources for finding in rule(source)]
    if findings:
        pytest.fail("\n".join([f"{rule.__name__}: {len(findings)}", *findings]), pytrace=False)


def test_the_repository_is_found() -> None:
    paths = set(repository_files())
    assert {"conftest.py", "pyproject.toml", "features/records.py", ".ci/run"} <= paths
    assert not any(path.startswith((".venv/", ".git/")) for path in paths)


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
def test_text(rule: Rule) -> None:
    check(rule, text_sources())


@pytest.mark.parametrize(
    "rule", (*PYTHON_RULES, numbers_carry_units), ids=lambda rule: rule.__name__
)
def test_python(rule: Rule) -> None:
    check(rule, python_sources())


def test_allowed_names_are_still_needed() -> None:
    present = {
        (source.path, name)
        for source in python_sources()
        for _, name in named_numbers(source)
        if lacks_unit(name)
    }
    assert not set(ALLOWED) - present, "stale entries of ALLOWED"
    assert all(reason for reason in ALLOWED.values())
    assert not UNITS & MARKS


def test_every_folder_of_the_design_is_there() -> None:
    for package in PACKAGES:
        text = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{package}/__init__.py says what it is for"
    folders = {path.split("/")[0] for path in repository_files() if "/" in path}
    assert {*PACKAGES, "bench", "tests", ".ci"} <= folders


def test_no_file_is_large() -> None:
    large = [
        f"{path}: {(ROOT / path).stat().st_size} bytes"
        for path in repository_files()
        if (ROOT / path).stat().st_size > FILE_BYTES_MAX
    ]
    assert not large, f"more than {FILE_BYTES_MAX} bytes: {large}"


def test_property_tests_do_not_depend_on_the_machine() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert settings.default.print_blob
    in_ci = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
    assert settings.default.derandomize == in_ci


def test_the_lock_pins_every_requirement_with_hashes() -> None:
    pinned = [
        line
        for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", " "))
    ]
    assert pinned
    assert all("==" in line and line.endswith("\\") for line in pinned), "regenerate: make lock"
