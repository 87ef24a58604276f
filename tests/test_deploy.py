"""The stack of docker-compose.yml fits the code: services, settings, health and dashboard."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_schema import COMPOSE
from schema_check import faults

from millrace.cli import main
from streams.metrics import Metrics
from streams.settings import rows

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "millrace.json"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return found


def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def test_the_file_is_one_of_compose(compose: dict[str, Any]) -> None:
    assert faults(COMPOSE, compose, COMPOSE) == []


@pytest.mark.parametrize(
    ("path", "key", "value", "fault"),
    [
        (("services", "worker"), "helthcheck", {}, "no member `helthcheck` is known"),
        (("services", "worker"), "restart", False, "restart: enum"),
        (("services", "worker"), "command", "worker", "command: type array"),
        (("services", "kafka", "environment"), "KAFKA_NODE_ID", 1, "KAFKA_NODE_ID: type string"),
        (("services", "kafka", "healthcheck"), "interval", "5 s", "interval: pattern"),
        (("services", "topics", "depends_on", "kafka"), "condition", "healthy", "condition: enum"),
        (("services", "redis"), "volumes", ["redis-data"], "volumes[0]: pattern"),
        (("services", "redis"), "ports", ["1:1", "1:1"], "ports: uniqueItems"),
        ((), "service", {}, "no member `service` is known"),
    ],
)
def test_a_misspelt_file_is_none(
    compose: dict[str, Any], path: tuple[str, ...], key: str, value: Any, fault: str
) -> None:
    spoilt = copy.deepcopy(compose)
    place = spoilt
    for step in path:
        place = place[step]
    place[key] = value
    (found,) = faults(COMPOSE, spoilt, COMPOSE)
    assert fault in found


def test_images_are_pinned(compose: dict[str, Any]) -> None:
    for name, service in services(compose).items():
        assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", service["image"]), name


def test_the_broker_is_the_one_of_the_tests(compose: dict[str, Any]) -> None:
    pom = (ROOT / "deploy" / "kafka" / "pom.xml").read_text("utf-8")
    version = services(compose)["kafka"]["image"].partition(":")[2]
    assert f"<artifactId>kafka_2.13</artifactId>\n      <version>{version}</version>" in pom


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    for service in services(compose).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_workers_wait_for_what_they_need_and_can_be_scaled(compose: dict[str, Any]) -> None:
    all_services = services(compose)
    worker = all_services["worker"]
    assert {name: on["condition"] for name, on in worker["depends_on"].items()} == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
        "topics": "service_completed_successfully",
    }
    assert "ports" not in worker, "two workers can't have one port of this machine"
    assert "container_name" not in worker
    for service in all_services.values():
        for name, on in service.get("depends_on", {}).items():
            if on["condition"] == "service_healthy":
                assert "healthcheck" in all_services[name], name


def test_settings_and_commands_exist(compose: dict[str, Any]) -> None:
    known = {row.variable for row in rows()}
    for service in services(compose).values():
        if not service["image"].startswith("millrace:"):
            continue
        assert set(service.get("environment", {})) <= known
        command = main.commands[service["command"][0]]
        for word in service["command"][1:]:
            command = command.commands[word]  # type: ignore[attr-defined]


def test_health_metrics_and_listening_meet(compose: dict[str, Any]) -> None:
    worker = services(compose)["worker"]
    port = worker["environment"]["MILLRACE_LISTEN"].partition(":")[2]
    assert worker["expose"] == [port]
    assert f":{port}/health/live" in worker["healthcheck"]["test"][-1]
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))
    (found,) = scrape["scrape_configs"][0]["dns_sd_configs"]
    assert (found["names"], str(found["port"])) == (["worker"], port)


def test_mounted_files_exist_and_volumes_are_declared(compose: dict[str, Any]) -> None:
    used = set()
    for service in services(compose).values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                used.add(source)
    assert used == set(compose["volumes"])


def test_the_dashboard_asks_for_metrics_that_workers_have() -> None:
    text = Metrics().text().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    named = set(kinds)
    for name, kind in kinds.items():
        if kind == "histogram":
            named |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    asked = {
        metric
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for metric in re.findall(r"millrace_\w+", target["expr"])
    }
    assert asked <= named
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in asked}
    unseen = {name.removesuffix("_total") for name in kinds} - families
    assert {name for name in unseen if not name.endswith("_created")} == set()
    provider = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text("utf-8")
    )
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert uids == {source["uid"] for source in provider["datasources"]}


def has_compose() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    found = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return found.returncode == 0


@pytest.mark.skipif(not has_compose(), reason="the client of Docker Compose is absent")
def test_docker_compose_takes_the_file() -> None:
    done = subprocess.run(
        ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
