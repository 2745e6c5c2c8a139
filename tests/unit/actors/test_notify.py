"""What a replica tells the manager that started it: ready, alive, stopping."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaxos.actors.health import Standing
from epaxos.actors.notify import STOPPING, Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def told(manager: socket.socket) -> list[str]:
    """What has been told since."""
    manager.setblocking(False)
    found = []
    while True:
        try:
            found.append(manager.recv(100).decode())
        except BlockingIOError:
            return found


def notifier(manager: socket.socket, standing: Standing, **more: str) -> Notifier:
    return Notifier(standing, lambda: not standing.trouble, {"NOTIFY_SOCKET": manager.getsockname(), **more})


def test_it_is_ready_when_it_listens_and_says_so_once(manager: socket.socket) -> None:
    standing = Standing()
    telling = notifier(manager, standing)
    telling.beat()
    assert told(manager) == []
    standing.listening.set()
    telling.beat()
    telling.beat()
    assert told(manager) == ["READY=1"]
    telling.tell(STOPPING)
    assert told(manager) == ["STOPPING=1"]


def test_it_says_that_it_lives_twice_an_interval_while_it_does(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    standing = Standing()
    telling = notifier(manager, standing, WATCHDOG_USEC="10000000")
    for now in (100.0, 104.9, 105.0, 110.0):  # noqa: B007 - the clock reads it
        telling.beat()
    assert told(manager) == ["WATCHDOG=1"] * 3
    now = 120.0
    standing.trouble = "it is stuck"
    telling.beat()
    assert told(manager) == [], "let it be started again"


@pytest.mark.parametrize("asked", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "10", "WATCHDOG_PID": "1"}])
def test_nobody_asked_for_a_watchdog(manager: socket.socket, asked: dict[str, str]) -> None:
    notifier(manager, Standing(), **asked).beat()
    assert told(manager) == []


def test_an_abstract_address(manager: socket.socket) -> None:
    name = f"\0epaxos-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        Notifier(Standing(), bool, {"NOTIFY_SOCKET": "@" + name[1:]}).tell(STOPPING)
        assert told(listening) == ["STOPPING=1"]
    assert told(manager) == []


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    Notifier(Standing(), bool, {"NOTIFY_SOCKET": str(tmp_path / "none")}).tell(STOPPING)
    Notifier(Standing(), bool, {}).tell(STOPPING)
