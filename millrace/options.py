"""Options that several commands share."""

from pathlib import Path
from typing import Any

import click

from streams.policy_files import BANK_POLICY

EXISTING_DIR = click.Path(exists=True, file_okay=False, path_type=Path)


def policy_option(command: Any) -> Any:
    """Add `--policy`, the folder of a policy, as `policy_dir`."""
    return click.option(
        "--policy",
        "policy_dir",
        type=EXISTING_DIR,
        default=BANK_POLICY,
        show_default="the bank policy that ships with Millrace",
        help="Folder of the policy's YAML files.",
    )(command)
