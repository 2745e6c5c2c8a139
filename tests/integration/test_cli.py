"""The `epaxos` command with real replicas: processes, sockets, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from epaxos.cli.main import main
from live_cluster import ClusterFailed, ClusterMaker, LiveCluster, Process

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
DOCUMENTED = {
    key
    for row in re.findall(r"^\|(.*)\| [a-z, ]+ \|.*\|$", DOCUMENT.partition("**JSON.**")[2], re.MULTILINE)
    for key in re.findall(r"`(\w+)`", row)
}


def wait_until_log_has(process: Process, pattern: str, count: int = 1) -> list[str]:
    """Wait until a process has printed `pattern` so many times; what was found."""
    deadline = time.monotonic() + 20
    while len(found := re.findall(pattern, process.printed, re.MULTILINE)) < count:
        assert process.status is None, f"ended with status {process.status}:\n{process.tail}"
        assert time.monotonic() < deadline, f"no {pattern!r} in:\n{process.tail}"
        time.sleep(0.02)
    return found


def start_up(alive: LiveCluster, *options: str) -> Process:
    """`epaxos up` with all replicas listening."""
    process = alive.spawn("up", *options, log="up.log")
    wait_until_log_has(process, r"\| .* listening for peers", alive.config.n)
    wait_until_log_has(process, r"peer \w+ is online", alive.config.n * (alive.config.n - 1))
    return process


def replicas_of(alive: LiveCluster) -> list[int]:
    """The ids of all processes that serve this cluster."""
    return [pid for pid, command in commands() if str(alive.path) in command and " serve " in command]


def commands() -> Iterator[tuple[int, str]]:
    """The id and command line of every process; small systems have no `ps`, others no /proc."""
    if Path("/proc/self/cmdline").exists():
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has just ended
                yield int(file.parent.name), file.read_text(errors="replace").replace("\0", " ")
        return
    done = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, check=True)
    for line in done.stdout.decode().splitlines():
        pid, command = line.split(maxsplit=1)
        yield int(pid), command


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    for pid in pids:
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.02)
            raise AssertionError(f"process {pid} still runs")


# -- one key -------------------------------------------------------------------------------------------------


def test_commands_on_one_key(cluster: ClusterMaker) -> None:
    alive = cluster(3)

    def start(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes]:
        done = alive.epaxos(*arguments, stdin=stdin)
        return done.returncode, done.stdout

    value = bytes(range(256)) * 100
    assert start("put", "key", "-", stdin=value) == (0, b"")
    assert start("get", "key", "--replica", "charlie") == (0, value)
    assert start("put", "key", "--previous", "") == (0, value)

    def run(*arguments: str) -> tuple[int, bytes]:  # the same without a process for each
        done = CliRunner(env={"EPAXOS_CONFIG": str(alive.path)}).invoke(main, arguments)
        return done.exit_code, done.stdout_bytes

    assert run("get", "key", "--hex", "--replica", "bravo") == (0, b"\n")
    assert run("append", "key", "hello") == (0, b"5\n")
    assert run("cas", "key", "hello", "world") == (0, b"")
    assert run("cas", "key", "hello", "world") == (1, b"world")
    assert run("cas", "--absent", "other", "new") == (0, b"")
    assert run("incr", "n", "-7", "--replica", "alpha") == (0, b"-7\n")
    assert run("incr", "n", "--replica", "bravo") == (0, b"-6\n")
    assert run("incr", "key") == (1, b"")
    assert run("incr", "key") == (1, b"")
    assert run("put", "key", "value", "--ttl", "1h") == (0, b"")
    code, left = run("ttl", "key")
    assert code == 0
    assert left.startswith((b"59m", b"1h")), left  # all of it, where the clock ticks late
    assert run("persist", "key") == (0, b"")
    assert run("expire", "key", "1h") == (0, b"")
    assert run("put", "key", "value") == (0, b"")
    assert (run("persist", "key"), run("ttl", "key"), run("expire", "none", "1h")) == ((1, b""),) * 3
    with Path("/dev/full").open("wb") as full:
        done = alive.epaxos("get", "key", stdout=full)
    assert (done.returncode, b"No space left" in done.stderr) == (4, True), "not as if there were no value"
    assert run("scan", "--replica", "charlie") == (0, b"key\tvalue\nn\t-6\nother\tnew\n")
    assert run("scan", "--limit", "1", "--reverse", "--json") == (0, b'{"key": "other", "value": "new"}\n')
    assert (run("count", "k"), run("delete-prefix", "oth")) == ((0, b"1\n"),) * 2
    assert run("delete", "key") == (0, b"")
    assert run("delete", "key") == (1, b"")
    assert run("get", "key") == (1, b"")


def test_what_the_cluster_refuses(cluster: ClusterMaker) -> None:
    alive = cluster(1, max_key=10, max_value=100)
    done = alive.epaxos("put", "a-key-too-long", "value")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"epaxos: alpha refused the command: ")
    assert done.stderr.count(b"\n") == 1
    done = alive.epaxos("put", "key", "-", stdin=b"x" * 101)
    assert done.returncode == 2
    assert b"standard input has more than max_value allows, 100 bytes" in done.stderr


def test_another_replica_answers_for_one_that_is_gone(cluster: ClusterMaker) -> None:
    alive = cluster(3)
    assert alive.epaxos("put", "key", "value", "--replica", "bravo").returncode == 0
    alive.kill("bravo")
    done = alive.epaxos("get", "key", "--replica", "bravo")
    assert (done.returncode, done.stdout) == (0, b"value")


def test_nobody_answers(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    began = time.monotonic()
    done = alive.epaxos("get", "key", "--timeout", "300ms")
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stdout) == (3, b"")
    message = b"epaxos: alpha, bravo, charlie could not be reached within 0.3 s; the command was not sent\n"
    assert done.stderr == message


# -- status --------------------------------------------------------------------------------------------------


def test_status_while_replicas_come_and_go(cluster: ClusterMaker) -> None:
    alive = cluster(3, name="mine")
    for replica in alive.names:
        assert alive.epaxos("incr", "n", "--replica", replica).returncode == 0
    done = alive.epaxos("status", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert found["cluster"] == "mine"
    assert [replica["name"] for replica in found["replicas"]] == alive.names
    assert all(replica["reachable"] and replica["keys"] == 1 for replica in found["replicas"])
    for replica in found["replicas"]:
        assert set(replica) == DOCUMENTED, "docs/cli.md has a table of them"
    assert len({replica["digest"] for replica in found["replicas"]}) == 1
    assert all(len(replica["committed"]) == 3 for replica in found["replicas"])

    done = alive.epaxos("status")
    assert done.returncode == 0
    headline = b"quorum: 2 of 3, 1 more may fail (cluster mine, 3 of 3 replicas answer)\n"
    assert done.stdout.startswith(headline)

    alive.stop("charlie")
    done = alive.epaxos("status", "--timeout", "1s")
    assert done.returncode == 1
    assert "mine, 2 of 3 replicas answer" in done.stdout.decode()
    assert "\ncharlie could not be reached" in done.stdout.decode()

    alive.stop()
    done = alive.epaxos("status", "--json", "--timeout", "300ms")
    assert done.returncode == 3
    assert [replica["reachable"] for replica in json.loads(done.stdout)["replicas"]] == [False] * 3


def test_watching_until_interrupted(cluster: ClusterMaker) -> None:
    alive = cluster(1)
    watching = alive.spawn("status", "--watch", "0.1", "--json", log="watch.log")
    wait_until_log_has(watching, "^{.*}$", 3)
    assert watching.stop(signal.SIGINT) == 130
    lines = [line for line in watching.printed.splitlines() if line]
    uptimes = [json.loads(line)["replicas"][0]["uptime_s"] for line in lines]
    assert uptimes == sorted(uptimes)


# -- serve ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stops_in_order_on_a_signal(cluster: ClusterMaker, number: int) -> None:
    alive = cluster(1)
    process = alive.process("alpha")
    process.send(number)
    assert alive.wait("alpha") == 0
    line = r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO     stopping on SIG(INT|TERM)$"
    assert re.search(line, alive.log("alpha"), re.MULTILINE)


def test_signals_that_a_replica_goes_on_after(cluster: ClusterMaker) -> None:
    alive = cluster(1)
    alpha = alive.process("alpha")
    wait_until_log_has(
        alpha, "INFO     listening for peers on "
    )  # before that it is still being put together
    alpha.send(signal.SIGUSR1)
    wait_until_log_has(alpha, r"^(Current t|T)hread 0x[0-9a-f]+ \(most recent call first\):$", 3)
    wait_until_log_has(alpha, r'^  File ".*epaxos/actors/(mailbox|replica).py", line ')
    for level in ("debug", "info", "debug"):
        before = alpha.printed.count(f"level is {level} now")
        alpha.send(signal.SIGUSR2)
        wait_until_log_has(alpha, f"WARNING .*level is {level} now", before + 1)
    assert alive.epaxos("put", "key", "value").returncode == 0


def test_serve_stops_after_its_uptime(cluster: ClusterMaker) -> None:
    alive = cluster(1, start=False)
    began = time.monotonic()
    alive.start("alpha", options=["--uptime", "500ms"])
    assert alive.wait("alpha") == 0
    assert time.monotonic() - began >= 0.5


def test_serve_at_a_port_in_use(cluster: ClusterMaker) -> None:
    alive = cluster(1)
    done = alive.epaxos("serve")
    assert (done.returncode, done.stdout) == (2, b"")
    last = done.stderr.decode().splitlines()[-1]
    assert re.match(r"epaxos: .*cannot .* on 127.0.0.1:\d+.*in use", last)
    assert "Traceback" not in done.stderr.decode()


# -- up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_all_and_one_signal_stops_all(cluster: ClusterMaker, number: int) -> None:
    alive = cluster(3, start=False)
    up = start_up(alive, "-c", str(alive.path))
    pids = replicas_of(alive)
    assert len(pids) == 3
    assert alive.epaxos("put", "key", "value").returncode == 0
    assert alive.epaxos("status").returncode == 0
    assert up.stop(number) == 0
    wait_until_gone(pids)
    assert (
        len(re.findall(rf"^up      \| stopping on {signal.Signals(number).name}", up.printed, re.MULTILINE))
        == 1
    )
    for name in alive.names:
        assert re.search(rf"^{name:<7} \| .* stopping on SIGTERM$", up.printed, re.MULTILINE)
    assert all(re.match(r"(alpha|bravo|charlie|up) *\| ", line) for line in up.printed.splitlines())


def test_up_stops_all_when_one_dies_and_says_what_to_do(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    up = start_up(alive, "-c", str(alive.path))
    pids = replicas_of(alive)
    os.kill(pids[1], signal.SIGKILL)
    assert up.wait() == 128 + signal.SIGKILL
    wait_until_gone(pids)
    assert re.search(
        r"^up .* was killed by SIGKILL; stopping the others\. It is not started again",
        up.printed,
        re.MULTILINE,
    )


def test_up_passes_on_why_a_replica_cannot_start(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    alive.start("bravo")
    wait_until_log_has(alive.process("bravo"), "listening")
    up = alive.spawn("up", "-c", str(alive.path), log="up.log")
    assert up.wait() == 2
    assert re.search(r"^bravo   \| epaxos: .*cannot .* on .*in use", up.printed, re.MULTILINE)
    assert "up      | bravo ended with status 2; stopping the others" in up.printed


def test_up_leaves_nothing_behind_when_it_is_killed(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    up = start_up(alive, "-c", str(alive.path))
    pids = replicas_of(alive)
    assert len(pids) == 3
    up.kill()
    wait_until_gone(pids)


def test_up_stops_after_its_uptime(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    up = alive.spawn("up", "--uptime", "500ms", "--log-level", "warning", log="up.log")
    assert up.wait() == 0
    assert "ended with status 0; the others go on" in up.printed
    assert " INFO " not in up.printed


# -- the fixture itself --------------------------------------------------------------------------------------


def test_clusters_have_ports_of_their_own(cluster: ClusterMaker) -> None:
    first, second = cluster(5, start=False), cluster(5, start=False)
    ports = [
        port
        for alive in (first, second)
        for replica in alive.config.replicas
        for port in (replica.port, replica.client_port, replica.metrics_port)
    ]
    assert len(set(ports)) == 30


def test_a_replica_that_ended_by_itself_is_noticed(cluster: ClusterMaker) -> None:
    alive = cluster(1)
    alive.process("alpha").stop(signal.SIGKILL)
    with pytest.raises(ClusterFailed, match="alpha ended with status -9"):
        alive.check()
    assert alive.wait("alpha") == -signal.SIGKILL
