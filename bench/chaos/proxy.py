"""A way to Redis that can be cut in the middle of a checkpoint."""

import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from streams.redis_scripts import ACQUIRE_LUA, SHARED_LUA

PIECE_BYTES = 1 << 20
HEAD_BYTES = 128  # in which the digest of a script stands
SCRIPT_CALL = re.compile(rb"\*\d+\r\n\$7\r\nEVALSHA\r\n")


def _sha(text: str) -> bytes:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()


OTHER_SCRIPTS = (_sha(ACQUIRE_LUA), _sha(SHARED_LUA))


def is_commit(piece: bytes) -> bool:
    """Whether a request, or its first piece, is a checkpoint: a script that is none of the others.

    A client sends nothing before it has its answer, so each request begins a piece.
    """
    return SCRIPT_CALL.match(piece) is not None and not any(
        sha in piece[:HEAD_BYTES] for sha in OTHER_SCRIPTS
    )


class CommitCutter:
    """Relays connections on a port of 127.0.0.1 to a Unix socket, and cuts when it is told to.

    `cut_requests(share)`: of the next checkpoint only this share of the first bytes gets through.
    `cut_answers(share)`: Redis does it, and of its answer only this share gets through.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._shares: list[float] = []
        self._of_answers = False
        self.cut_count = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_requests(self, *shares: float) -> None:
        """Cut the next checkpoints on their way, one for each share."""
        self._arm(shares, of_answers=False)

    def cut_answers(self, *shares: float) -> None:
        """Cut the answers to the next checkpoints, one for each share."""
        self._arm(shares, of_answers=True)

    @property
    def is_armed(self) -> bool:
        """Whether a cut is still to come."""
        return bool(self._shares)

    def disarm(self) -> None:
        """Cut no more."""
        self._arm((), of_answers=False)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _arm(self, shares: tuple[float, ...], *, of_answers: bool) -> None:
        with self._lock:
            self._shares, self._of_answers = list(shares), of_answers

    def _take(self, piece: bytes) -> tuple[bool, float] | None:
        """Return what to cut for this piece of a request: whether its answer, and the share."""
        if not self._shares or not is_commit(piece):
            return None
        with self._lock:
            if not self._shares:
                return None
            self.cut_count += 1
            return self._of_answers, self._shares.pop(0)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            client.close()
            server.close()
            return
        answer_share: list[float] = []

        def requests(piece: bytes) -> bytes | None:
            cut = self._take(piece)
            if cut is None:
                return piece
            of_answer, share = cut
            if of_answer:
                answer_share.append(share)
                return piece
            server.sendall(_first(piece, share))
            return None

        def answers(piece: bytes) -> bytes | None:
            if not answer_share:
                return piece
            client.sendall(_first(piece, answer_share[0]))
            return None

        other = threading.Thread(target=_pump, args=(server, client, answers), daemon=True)
        other.start()
        _pump(client, server, requests)
        other.join()
        client.close()
        server.close()


def _first(piece: bytes, share: float) -> bytes:
    """Return this share of the bytes, never all of them."""
    return piece[: min(int(share * len(piece)), len(piece) - 1)]


def _pump(
    source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]
) -> None:
    """Relay pieces until one side hangs up or `change` answers None; then hang up on both."""
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            changed = change(piece)
            if changed is None:
                break
            target.sendall(changed)
    for side in (source, target):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
