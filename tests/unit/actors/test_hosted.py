from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from epaxos.actors.hosted import HostedActor


class Guest(HostedActor):
    """Notes what happens to it, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Any] = []
        self.threads: set[int] = set()

    def on_start(self) -> None:
        self.noted.append("started")

    def on_stop(self) -> None:
        self.noted.append("stopped")

    def on_receive(self, message: Any) -> Any:
        self.threads.add(threading.get_ident())
        if message == "fail":
            raise ValueError("as asked")
        self.noted.append(message)
        return f"answer to {message}"


class Host:
    """Counts the times that it is woken."""

    def __init__(self) -> None:
        self.woken = 0
        self.guest = Guest()
        self.guest.begin(self.wake)

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.guest.end()


def test_it_is_a_registered_actor_from_begin_to_end(host: Host) -> None:
    assert host.guest.actor_ref in pykka.ActorRegistry.get_all()
    assert host.guest.actor_ref.is_alive()
    host.guest.end()
    host.guest.end()
    assert host.guest.noted == ["started", "stopped"]
    assert host.guest.actor_ref not in pykka.ActorRegistry.get_all()
    with pytest.raises(pykka.ActorDeadError):
        host.guest.actor_ref.tell("too late")


def test_messages_wait_until_the_host_comes_round(host: Host) -> None:
    host.guest.actor_ref.tell(1)
    host.guest.actor_ref.tell(2)
    assert host.guest.noted == ["started"]
    host.guest.run_waiting()
    assert host.guest.noted == ["started", 1, 2]
    assert host.guest.threads == {threading.get_ident()}


def test_only_other_threads_wake_the_host(host: Host) -> None:
    host.guest.actor_ref.tell("mine")
    assert host.woken == 0
    other = threading.Thread(target=host.guest.actor_ref.tell, args=("theirs",))
    other.start()
    other.join()
    assert host.woken == 1
    host.guest.run_waiting()
    assert host.guest.noted == ["started", "mine", "theirs"]
    assert host.guest.threads == {threading.get_ident()}


def test_question_of_another_thread_is_answered(host: Host) -> None:
    answers: list[Any] = []
    asked = threading.Event()

    def ask() -> None:
        future = host.guest.actor_ref.ask("question", block=False)
        asked.set()
        answers.append(future.get(timeout=5))

    other = threading.Thread(target=ask)
    other.start()
    assert asked.wait(5)
    host.guest.run_waiting()
    other.join()
    assert answers == ["answer to question"]


def test_failure_goes_through_to_the_host(host: Host) -> None:
    host.guest.actor_ref.tell("fail")
    with pytest.raises(ValueError, match="as asked"):
        host.guest.run_waiting()


def test_failure_goes_to_who_waits_for_the_answer(host: Host) -> None:
    future = host.guest.actor_ref.ask("fail", block=False)
    host.guest.run_waiting()
    with pytest.raises(ValueError, match="as asked"):
        future.get(timeout=5)


def test_stopped_by_a_message_it_takes_no_more(host: Host) -> None:
    host.guest.actor_ref.stop(block=False)
    host.guest.run_waiting()
    assert host.guest.noted == ["started", "stopped"]
