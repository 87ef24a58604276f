"""Real Redis servers as users run them: on a port, with TLS before them, as Cluster or Sentinel."""

import contextlib
import random
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from streams.private_redis import PrivateRedis, redis_executable

POLL_S = 0.02
GIVE_UP_S = 30.0
SLOT_COUNT = 16_384


def wait_for(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds; fail naming what did not come."""
    pause = threading.Event()
    for _ in range(int(GIVE_UP_S / POLL_S)):
        if holds():
            return
        pause.wait(POLL_S)
    raise AssertionError(f"waited {GIVE_UP_S} s in vain for {what}")


def free_port() -> int:
    """Return a port that is free, and so is the one 10,000 above: a Cluster's nodes need both."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def execute(client: Any, *command: str | int | bytes) -> Any:
    return client.execute_command(*command)


class OnPort:
    """A private Redis that also listens on a port of 127.0.0.1."""

    def __init__(self, directory: Path, **options: str) -> None:
        self.port = free_port()
        named = {name.replace("_", "-"): value for name, value in options.items()}
        everywhere = {"port": str(self.port), "bind": "127.0.0.1"}
        self.server = PrivateRedis(directory, options=everywhere | named)
        self.client = redis.Redis(port=self.port)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Cluster:
    """Three masters with a third of the slots each, and a replica of the first."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [
            OnPort(directory / f"{i}", cluster_enabled="yes", cluster_node_timeout="1000",
                   repl_diskless_sync="yes", repl_diskless_sync_delay="0")
            for i in range(4)
        ]  # fmt: skip
        masters, replica = self.nodes[:3], self.nodes[3]
        for i, node in enumerate(masters):
            slots = range(i * SLOT_COUNT // 3, (i + 1) * SLOT_COUNT // 3)
            execute(node.client, "CLUSTER", "ADDSLOTS", *slots)
            execute(node.client, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            execute(self.nodes[0].client, "CLUSTER", "MEET", "127.0.0.1", node.port)
        wait_for(lambda: all(self._knows(node, 4) for node in self.nodes), "the cluster to meet")
        first_id = self.id_of(masters[0])
        execute(replica.client, "CLUSTER", "REPLICATE", first_id)
        wait_for(
            lambda: execute(replica.client, "INFO", "replication")["master_link_status"] == "up",
            "the replica",
        )
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in masters)

    def id_of(self, node: OnPort) -> str:
        return str(execute(node.client, "CLUSTER", "MYID").decode())

    def master_of(self, slot: int) -> OnPort:
        """Return the first three nodes' one whose range has this slot."""
        return self.nodes[slot * 3 // SLOT_COUNT]

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def _knows(self, node: OnPort, count: int) -> bool:
        facts = execute(node.client, "CLUSTER INFO")
        return facts["cluster_state"] == "ok" and int(facts["cluster_known_nodes"]) == count


class Sentinel:
    """A master, its replica, and a Sentinel that calls the master `bank`."""

    def __init__(self, directory: Path) -> None:
        fast = {"repl_diskless_sync": "yes", "repl_diskless_sync_delay": "0"}
        self.master = OnPort(directory / "master", **fast)
        self.replica = OnPort(directory / "replica", **fast)
        execute(self.replica.client, "REPLICAOF", "127.0.0.1", self.master.port)
        self.port = free_port()
        file = directory / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor bank 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds bank 500\nsentinel failover-timeout bank 3000\n",
            encoding="utf-8",
        )
        command = [str(redis_executable()), str(file), "--sentinel"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        wait_for(self._sees_replica, "the Sentinel to see the replica")
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/bank/0"

    def _sees_replica(self) -> bool:
        try:
            found = execute(self.client, "SENTINEL", "REPLICAS", "bank")
        except redis.exceptions.ConnectionError:
            return False
        return (
            len(found) == 1
            and self.replica.client.info("replication")["master_link_status"] == "up"
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self.client.close()
        self.replica.close()
        self.master.close()


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Return certificate and key of 127.0.0.1; the certificate is its own authority."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=millrace-test",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


class TlsBefore:
    """Ends TLS before a server on a port: the wheel's Redis is built without.

    It demands a certificate of the client too, by the same authority.
    """

    def __init__(self, target_port: int, certificate: Path, key: Path) -> None:
        self._target_port = target_port
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        """Relay one connection; an answer is only read after its request was sent."""
        try:
            with (
                self._context.wrap_socket(plain, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._target_port)) as server,
            ):
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()
                _pump(client, server)
        except (OSError, ssl.SSLError):
            plain.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    except (OSError, ssl.SSLError, ValueError):
        pass
    finally:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
