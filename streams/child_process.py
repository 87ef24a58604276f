"""Servers that run as children of this process: how they end with it, and what their logs say."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child runs before exec, so that the kernel stops it when its parent dies.

    None where the kernel can't: it is Linux that does. It goes by the thread that starts the child.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: no locks in it
    parent_pid = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent_pid:  # it died before we asked
            os._exit(1)

    return ask_kernel


def log_tail(path: Path, line_count: int) -> str:
    """Return the end of a log as the tail of an error message; empty where there is no log."""
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        telling = [line for line in lines if not line.startswith("\tat ")]  # no stack of Java's
        return "; the end of its log:\n" + "\n".join(telling[-line_count:])
    return ""
