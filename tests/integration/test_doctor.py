"""`epaxos doctor` on a cluster that is well, and on set-ups that are broken, one after the other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toml
from click.testing import CliRunner

from epaxos.cli.main import main
from epaxos.testing import LocalCluster


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(durable=True, directory=tmp_path_factory.mktemp("doctor")) as cluster:
        yield cluster


def examine(path: Path, *arguments: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and what was found by the name of the check."""
    result = CliRunner().invoke(main, ["doctor", "--json", "-c", str(path), *arguments])
    shown = json.loads(result.stdout)
    assert shown["well"] == (result.exit_code == 0)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in shown["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return result.exit_code, found


def failures(found: dict[str, list[dict[str, Any]]]) -> set[tuple[str, str]]:
    """Checks and subjects; each says what to do."""
    failed = [one for findings in found.values() for one in findings if one["state"] == "failed"]
    assert all(one["advice"] for one in failed)
    return {(one["check"], one["subject"]) for one in failed}


def changed(alive: LocalCluster, tmp_path: Path, **changes: Any) -> Path:
    """The cluster's file with other keys; those of the first replica are `alpha`."""
    file = toml.loads(alive.path.read_text())
    file["replicas"][0] |= changes.pop("alpha", {})
    path = tmp_path / "changed.toml"
    path.write_text(toml.dumps(file | changes))
    return path


def test_all_is_well(alive: LocalCluster) -> None:
    status, found = examine(alive.path)
    assert status == 0, found
    local = {"dns", "descriptors", "disk", "sync"}
    assert set(found) == local | {"ports", "quorum", "versions", "levels", "clocks"}
    assert {one["subject"] for one in found["ports"]} == {"alpha", "bravo", "charlie"}
    assert "1 more may fail" in found["quorum"][0]["found"]
    shown = CliRunner().invoke(main, ["doctor", "-c", str(alive.path)]).stdout
    assert "ok" in shown.splitlines()[-1]


def test_a_host_that_does_not_resolve(
    alive: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **more: Any) -> Any:
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    path = changed(alive, tmp_path, alpha={"host": "nowhere.invalid"})
    status, found = examine(path, "--timeout", "1s")
    assert status == 1
    assert ("dns", "alpha: nowhere.invalid") in failures(found)


def test_a_port_that_another_program_has(alive: LocalCluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        path = changed(alive, tmp_path, alpha={"client_port": stranger.getsockname()[1]})
        status, found = examine(path, "--timeout", "500ms")
    assert status == 1
    assert ("ports", "alpha") in failures(found)
    assert ("ports", "bravo") not in failures(found)


def test_a_file_of_another_cluster(alive: LocalCluster, tmp_path: Path) -> None:
    status, found = examine(changed(alive, tmp_path, name="other"), "--timeout", "1s")
    assert status == 1
    assert {("ports", "alpha"), ("quorum", "")} <= failures(found)
    assert all("compare the configuration files" in one["found"] for one in found["ports"])


def test_a_data_directory_that_cannot_be(alive: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = changed(alive, tmp_path, storage={"engine": "sqlite", "directory": str(tmp_path / "file")})
    status, found = examine(path)
    assert status == 1
    assert failures(found) == {("disk", str(tmp_path / "file" / name)) for name in alive.names}


def test_a_limit_that_is_low_is_warned_of(alive: LocalCluster) -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
        f"from epaxos.cli.main import main; main(['doctor', '-c', {str(alive.path)!r}])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "at most 256 for a process" in shown.stdout
    assert "LimitNOFILE" in shown.stdout


def test_replicas_that_are_down(alive: LocalCluster) -> None:
    """The last: they are killed."""
    alive.kill("charlie")
    status, found = examine(alive.path, "--timeout", "1s")
    assert status == 1
    assert ("ports", "charlie") in failures(found)
    assert any("start it" in one["advice"] for one in found["ports"])
    alive.kill("bravo")
    status, found = examine(alive.path, "--timeout", "1s")
    assert status == 1
    assert {("ports", "bravo"), ("ports", "charlie"), ("quorum", "")} <= failures(found)
