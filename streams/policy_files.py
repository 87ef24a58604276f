"""Policies on disk: a folder of YAML files, read and checked whole."""

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
    files = sorted(directory.glob("*.yaml")) if directory.is_dir() else []
    if not files:
        raise MillraceError(f"{directory}: expected a policy folder with *.yaml files, got none")
    policy = Policy.parse({str(file): read_text(file) for file in files})
    policy.check_pipelines(CATALOG, [name for name in CATALOG if CATALOG[name].takes_bins])
    compile_policy(policy, IdHasher().one)
    return policy


def read_text(file: Path) -> str:
    """Return the text of a file. Raises MillraceError where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MillraceError(f"{file}: expected UTF-8 text, got {error.reason}") from error
