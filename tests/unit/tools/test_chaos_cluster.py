"""A replica's process may be killed and started again; what ends by itself is told from what was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.cluster import ChaosError, Cluster, Plan, Replica
from shared.processes import Children, lifeline

PROGRAM = "#!/bin/sh\necho life; {then}\n"


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    with lifeline() as line, Children() as children:
        yield Replica("alpha", tmp_path, children, line)


def program(directory: Path, then: str) -> Path:
    """Something to be started in the place of a replica."""
    file = directory / "program"
    file.write_text(PROGRAM.format(then=then))
    file.chmod(0o700)
    return file


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_life_has_its_own_part_of_the_log(replica: Replica, tmp_path: Path) -> None:
    sleep = program(tmp_path, "exec sleep 60")
    for life in (1, 2):
        replica.start(sleep)
        assert replica.lives == life
        wait_until(lambda: replica.said == "life\n")
        assert replica.runs
        replica.kill()
        assert not replica.runs
    assert replica.log.read_text() == "life\n" * 2


def test_who_was_struck_did_not_end_by_itself(replica: Replica, tmp_path: Path) -> None:
    replica.start(program(tmp_path, "exec sleep 60"))
    wait_until(lambda: bool(replica.said))
    replica.strike()
    time.sleep(0.05)
    replica.check()
    replica.kill()
    replica.check()


def test_who_ended_by_itself_after_a_restart_is_noticed(replica: Replica, tmp_path: Path) -> None:
    replica.start(program(tmp_path, "exec sleep 60"))
    replica.strike()
    replica.kill()
    replica.start(program(tmp_path, "exit 3"))

    def is_noticed() -> bool:
        try:
            replica.check()
        except ChaosError as error:
            return "alpha ended by itself with status 3" in str(error)
        return False

    wait_until(is_noticed)


def test_where_all_are_struck_clients_of_empty_seats_are_too(tmp_path: Path) -> None:
    with Children() as children:
        cluster = Cluster(tmp_path, Plan(3, 1.0, "sqlite", restarts=True, members=True), children, 0)
    assert len(cluster.seats) > len(cluster.names)
    assert cluster.befallen(cluster.names) == cluster.seats
    assert cluster.befallen(cluster.names[:1]) == cluster.names[:1]
    assert not cluster.befallen(())
