"""What `conf/` has for deploying: the unit, the image, the compose file and the manifests, as linters see them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from epaxos.config import Config, load_config

CONF = Path(__file__).resolve().parents[2] / "conf"
UNIT = CONF / "epaxos@.service"
SYSTEMD = shutil.which("systemd-analyze")
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((CONF / "kubernetes" / "epaxos.yaml").read_text()))
COMPOSE: dict[str, Any] = yaml.safe_load((CONF / "docker" / "compose.yml").read_text())


def run(*command: str) -> str:
    """What a program prints that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kind(name: str) -> dict[str, Any]:
    (found,) = [one for one in MANIFESTS if one["kind"] == name]
    return found


def replicas_of(config: Config) -> list[tuple[str, str]]:
    return [(one.name, one.host) for one in config.replicas]


# -- the unit ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SYSTEMD, reason="systemd-analyze is not installed; Debian's package systemd has it")
def test_systemd_takes_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    program = tmp_path / "epaxos"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/epaxos/bin/epaxos", str(program)))
    run(str(SYSTEMD), "verify", "--man=no", str(unit))
    told = run(str(SYSTEMD), "security", "--offline=true", "--threshold=20", str(unit))
    assert "Overall exposure level" in told


def test_the_unit_notifies_and_is_left_time_to_stop() -> None:
    parser = ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys of a unit have capitals
    parser.read(UNIT)
    service = parser["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "on-failure")
    assert service["TimeoutStopSec"] == "10s"
    assert (service["User"], service["NoNewPrivileges"], service["ProtectSystem"]) == (
        "epaxos",
        "yes",
        "strict",
    )


# -- the image ---------------------------------------------------------------------------------------------


@pytest.fixture
def instructions(tmp_path: Path) -> list[dict[str, Any]]:
    parser = DockerfileParser(str(tmp_path), fileobj=None)
    parser.content = (CONF / "docker" / "Dockerfile").read_text()
    found: list[dict[str, Any]] = parser.structure
    return found


def test_the_image_is_small_closed_and_tells_its_health(instructions: list[dict[str, Any]]) -> None:
    bases = [one["value"] for one in instructions if one["instruction"] == "FROM"]
    assert len(bases) == 2, "what builds is left behind"
    assert all(re.match(r"python:3\.\d+-slim-\w+", base) for base in bases)
    last = instructions[
        [one["instruction"] for one in instructions].index("FROM", instructions.index(instructions[0]) + 1) :
    ]
    by_name = {one["instruction"]: one["value"] for one in last}
    assert by_name["USER"].isdigit(), "a number, which Kubernetes can tell from root"
    assert int(by_name["USER"]) > 1000
    assert "/livez" in by_name["HEALTHCHECK"]
    assert json.loads(by_name["ENTRYPOINT"]) == ["epaxos"]
    assert by_name["STOPSIGNAL"] == "SIGTERM"
    assert not [one for one in instructions if one["instruction"] == "ADD"]


def test_what_the_image_is_made_of_is_not_left_out() -> None:
    ignored = (CONF / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", (CONF / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert sources == {name[1:] for name in ignored if name.startswith("!")}
    assert all((CONF.parent / name).exists() for name in sources)


# -- compose -----------------------------------------------------------------------------------------------


def test_the_compose_file_is_of_its_schema() -> None:
    program = Path(sys.executable).parent / "check-jsonschema"
    run(str(program), "--builtin-schema", "vendor.compose-spec", str(CONF / "docker" / "compose.yml"))


def test_the_compose_file_runs_the_replicas_of_its_cluster() -> None:
    config = load_config(str(CONF / "docker" / "cluster.toml"), environ={})
    names = [name for name in COMPOSE["services"] if name not in {"prometheus", "grafana"}]
    assert replicas_of(config) == [(name, name) for name in names]
    for name in names:
        service = COMPOSE["services"][name]
        assert service["environment"]["EPAXOS_REPLICA"] == name
        assert service["volumes"] == [f"{name}:/data"]
        assert service["read_only"]
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for source in COMPOSE["configs"].values():
        assert (CONF / "docker" / source["file"]).exists()
    scraped = yaml.safe_load((CONF / "docker" / "prometheus.yml").read_text())["scrape_configs"]
    assert [one["labels"]["replica"] for one in scraped[0]["static_configs"]] == names


# -- Kubernetes --------------------------------------------------------------------------------------------


def test_the_manifests_are_of_their_schemas() -> None:
    program = Path(sys.executable).parent / "kubernetes-validate"
    run(str(program), "--strict", str(CONF / "kubernetes" / "epaxos.yaml"))


def test_the_pods_are_the_replicas_of_the_cluster() -> None:
    config = load_config(str(CONF / "kubernetes" / "epaxos.toml"), environ={})
    pods = kind("StatefulSet")
    name, service = pods["metadata"]["name"], kind("Service")["metadata"]["name"]
    assert pods["spec"]["serviceName"] == service
    expected = [f"{name}-{number}" for number in range(pods["spec"]["replicas"])]
    assert replicas_of(config) == [(pod, f"{pod}.{service}") for pod in expected]
    (container,) = pods["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    one = config.replicas[0]
    assert ports == {"peers": one.port, "clients": one.client_port, "http": one.metrics_port}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert pods["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]


def test_a_pod_looks_at_its_volume_first_and_is_put_in_its_place() -> None:
    """What the script does, against a cluster, is in tests/integration/test_epochs.py."""
    (replica,) = kind("StatefulSet")["spec"]["template"]["spec"]["containers"]
    hook = replica["lifecycle"]["postStart"]["exec"]["command"]
    assert (replica["command"][-1], hook[-1]) == ("start", "place")
    mounted = {mount["mountPath"]: mount.get("subPath", "") for mount in replica["volumeMounts"]}
    assert mounted[replica["command"][1]] == mounted[hook[1]] == "volume.sh"
    (generated,) = yaml.safe_load((CONF / "kubernetes" / "kustomization.yaml").read_text())[
        "configMapGenerator"
    ]
    assert {name for name in mounted.values() if name} == set(generated["files"])
    run("sh", "-n", str(CONF / "kubernetes" / "volume.sh"))


def test_as_many_may_be_away_as_the_cluster_survives() -> None:
    config = load_config(str(CONF / "kubernetes" / "epaxos.toml"), environ={})
    assert kind("PodDisruptionBudget")["spec"]["maxUnavailable"] == config.f
    assert kind("Service")["spec"]["publishNotReadyAddresses"], "else no quorum would ever form"
    labels = kind("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert kind("Service")["spec"]["selector"].items() <= labels.items()
