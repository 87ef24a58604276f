"""Policies on disk: a folder of YAML files, read and checked whole."""

from collections.abc import Mapping
from pathlib import Path

import actions
from actions.policy import Policy
from actions.policy_compiler import compile_policy
from features.errors import MillraceError
from features.hashing import IdHasher
from online_models.catalog import CATALOG

BANK_POLICY = Path(actions.__file__).parent / "policies" / "bank"


def read_policy(directory: Path = BANK_POLICY) -> Policy:
    """Read and check a policy folder: its form, its pipelines and every expression.

    Raises SourceError with file, line and column, or MillraceError where there is no policy.
    """
    return parse_policy({str(directory / name): t for name, t in policy_texts(directory).items()})


def policy_texts(directory: Path) -> dict[str, str]:
    """Return the texts of a policy folder by file name.

    Raises MillraceError where there is no policy, or a text is not UTF-8.
    """
    files = sorted(directory.glob("*.yaml")) if directory.is_dir() else []
    if not files:
        raise MillraceError(f"{directory}: expected a policy folder with *.yaml files, got none")
    return {file.name: read_text(file) for file in files}


def parse_policy(files: Mapping[str, str]) -> Policy:
    """Read a policy from its YAML texts (file name -> text) and check it whole.

    Raises SourceError with file, line and column.
    """
    policy = Policy.parse(files)
    check_policy(policy)
    return policy


def check_policy(policy: Policy) -> None:
    """Raise SourceError for a pipeline that there is not, and for a wrong expression."""
    policy.check_pipelines(CATALOG, [name for name in CATALOG if CATALOG[name].takes_bins])
    compile_policy(policy, IdHasher().one)


def read_text(file: Path) -> str:
    """Return the text of a file. Raises MillraceError where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MillraceError(f"{file}: expected UTF-8 text, got {error.reason}") from error
