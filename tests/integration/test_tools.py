"""tools/demo shows a real cluster and leaves nothing running, whatever happens to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from live_cluster import ROOT
from workspace import CLUSTER, DATA, Workspace

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    space = Workspace(tmp_path)
    space.share_environment()
    yield space
    space.close()
    for pid in processes_of(space):
        os.kill(pid, signal.SIGKILL)


def processes_of(space: Workspace) -> dict[int, str]:
    """The processes whose command line names the copy of the repository, by their id."""
    return {pid: line for pid, line in command_lines() if str(space.directory) in line}


def command_lines() -> Iterator[tuple[int, str]]:
    """All processes: their ids and command lines, words parted by a blank."""
    if not Path("/proc/self/cmdline").exists():  # not Linux
        listed = subprocess.run(["ps", "-ewwo", "pid=,args="], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            pid, _, command = line.strip().partition(" ")
            yield int(pid), command
        return
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            yield int(file.parent.name), file.read_text(errors="replace").replace("\0", " ")


def replica_of(space: Workspace, name: str) -> int | None:
    """The process of a replica."""
    found = [pid for pid, line in processes_of(space).items() if "serve" in line and f"--name {name}" in line]
    return found[0] if found else None


def begin_demo(space: Workspace, until: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """Start a long demo and wait for something to happen; its output goes to a file."""
    with (space.directory / "demo.log").open("wb") as log:
        process = space.popen("exec tools/demo --duration 60s", output=log)
    deadline = time.monotonic() + 60
    while not until():
        assert process.poll() is None, printed(space)
        assert time.monotonic() < deadline, printed(space)
        time.sleep(0.05)
    return process


def printed(space: Workspace) -> str:
    return (space.directory / "demo.log").read_text()


def benchmark_runs(space: Workspace) -> bool:
    return any(" bench " in line for line in processes_of(space).values())


def test_demo(workspace: Workspace) -> None:
    """It takes no notice of data that is there."""
    mine = workspace.directory / DATA / "alpha"
    mine.mkdir(parents=True)
    (mine / "precious").write_text("mine")
    status, output = workspace.run(
        "cd /; " + str(workspace.directory / "tools" / "demo") + " --operations 2000"
    )
    assert status == 0, output
    for shown in ("alpha", "bravo", "charlie", "commands executed", "on the fast path"):
        assert shown in output
    assert processes_of(workspace) == {}
    assert not list(workspace.temporary.glob("epaxos-*"))
    assert list((workspace.directory / DATA).iterdir()) == [mine]
    assert [file.read_text() for file in mine.iterdir()] == ["mine"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_interrupted_demo_leaves_nothing_running(workspace: Workspace, signum: signal.Signals) -> None:
    process = begin_demo(workspace, until=lambda: benchmark_runs(workspace))
    process.send_signal(signum)
    assert process.wait(30) == 128 + signum
    assert processes_of(workspace) == {}
    assert (
        printed(workspace).splitlines()[-1].endswith(f"interrupted by {signum.name}; everything is stopped")
    )


def test_demo_interrupted_while_replicas_start(workspace: Workspace) -> None:
    process = begin_demo(workspace, until=lambda: replica_of(workspace, "alpha") is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert processes_of(workspace) == {}


def test_replicas_end_with_a_demo_that_is_killed(workspace: Workspace) -> None:
    process = begin_demo(workspace, until=lambda: benchmark_runs(workspace))
    process.kill()
    deadline = time.monotonic() + 15
    while any(replica_of(workspace, name) for name in ("alpha", "bravo", "charlie")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_demo_ends_when_a_replica_dies(workspace: Workspace) -> None:
    process = begin_demo(workspace, until=lambda: benchmark_runs(workspace))
    bravo = replica_of(workspace, "bravo")
    assert bravo
    os.kill(bravo, signal.SIGKILL)
    assert process.wait(30) == 1
    assert "replica bravo ended with status -9" in printed(workspace)
    assert processes_of(workspace) == {}


def test_port_in_use_is_said_in_one_line(workspace: Workspace) -> None:
    alpha, *_ = tomllib.loads((workspace.directory / CLUSTER).read_text())["replicas"]
    with socket.create_server(("127.0.0.1", alpha["client_port"])):
        status, output = workspace.run("tools/demo")
    assert status == 1
    [line] = output.splitlines()
    assert line.startswith("tools/demo: replica alpha of ")
    assert f"cannot listen on 127.0.0.1:{alpha['client_port']}: Address already in use" in line
    assert processes_of(workspace) == {}


def test_benchmark_that_fails_fails_the_demo(workspace: Workspace) -> None:
    status, output = workspace.run("tools/demo --no-such-option")
    assert status == 1
    assert "tools/demo: the benchmark failed with status 2" in output
    assert processes_of(workspace) == {}


def test_ci_runs_what_a_developer_runs() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / "tools" / "test", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1].endswith('/../tools/test"')
