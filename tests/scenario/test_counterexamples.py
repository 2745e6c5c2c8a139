"""The schedules of protocol 3 break a core, or a driver, that lacks the rule which each is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Effects
from epaxos.protocol.epaxos import recovery
from epaxos.protocol.epaxos.conflicts import ALL
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Message, RecoverOK
from epaxos.protocol.epaxos.recovery import Recovery, RecoveryProtocol
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.ids import Ballot, InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Value
from harness.commands import Access, conflict
from harness.invariants import Watch
from scenario.dialect import DIALECTS, EPAXOS
from scenario.mail import ScenarioError
from scenario.replica import Replica
from scenario.script import Script

Patch = pytest.MonkeyPatch
BROKEN = (ScenarioError, InvariantError, AssertionError)


def play(name: str) -> None:
    (path,) = Path(__file__).parent.glob(f"counterexample-{name}*.txt")
    Script(path.read_text())


def test_one_ballot_instead_of_two(monkeypatch: Patch) -> None:
    answer: Callable[[Instance, Ballot], RecoverOK] = recovery._recover_ok
    monkeypatch.setattr(
        recovery, "_recover_ok", lambda instance, b: answer(instance, b)._replace(abal=instance.bal)
    )
    with pytest.raises(BROKEN, match=r"two decisions for A\.0"):
        play("single-ballot")


def test_no_validation(monkeypatch: Patch) -> None:
    monkeypatch.setattr(recovery, "against", lambda *_: ())
    with pytest.raises(BROKEN, match="neither covers the other"):
        play("missing-validation")


def test_a_lower_threshold_for_waiting(monkeypatch: Patch) -> None:
    note = RecoveryProtocol._note_waiting
    monkeypatch.setattr(RecoveryProtocol, "_note_waiting", lambda self, place, k: note(self, place, k + 1))
    with pytest.raises(BROKEN, match=r"two decisions for A\.0"):
        play("3.8")


def test_a_recovery_that_goes_on_beside_a_commit(monkeypatch: Patch) -> None:
    def current(self: RecoveryProtocol, place: InstanceId, ballot: Ballot) -> Recovery | None:
        going_on = self.recoveries.get(place)
        return going_on if going_on is not None and going_on.ballot == ballot else None

    monkeypatch.setattr(RecoveryProtocol, "on_committed", lambda *_: None)
    monkeypatch.setattr(RecoveryProtocol, "_current", current)
    monkeypatch.setattr(EPaxos, "_is_settled", lambda *_: False)
    with pytest.raises(BROKEN, match=r"COMMITTED.*->.*ACCEPTED"):
        play("3.5")


@pytest.fixture
def forgetful_no_ops(monkeypatch: Patch) -> None:
    """No-ops conflict with nothing."""

    def attributes(self: State, place: InstanceId, command: Command) -> tuple[Vector, int]:
        assert isinstance(command, Access)
        known = [
            [
                instance.id.slot
                for instance in row.values()
                if isinstance(instance.orig, Access)
                and instance.value is not NOP
                and conflict(instance.orig, command)
            ]
            for row in self.logs.rows
        ]
        highest = [max(slots, default=-1) for slots in known]
        if place.row != self.me:
            highest[place.row] = -1
        return tuple(highest), 0

    monkeypatch.setattr(State, "attributes", attributes)
    monkeypatch.setattr(Watch, "_check_answer", lambda *_: None)


@pytest.mark.usefixtures("forgetful_no_ops")
def test_a_no_op_that_its_owner_ignores() -> None:
    with pytest.raises(BROKEN, match=r"2\.1 was proposed without regard to its own row"):
        play("3.1")


@pytest.mark.usefixtures("forgetful_no_ops")
def test_a_committed_no_op_that_is_ignored() -> None:
    with pytest.raises(BROKEN, match=r"two decisions for B\.0"):
        Script("""
cluster n=5
propose A x
deliver A->C PreAccept
crash A
restart A
drop A->*
recover D A.0
deliver D->A Recover
deliver D->E Recover
deliver *->D RecoverOK
deliver D->A Accept
deliver D->E Accept
deliver *->D AcceptOK
deliver D->A Commit
drop D->*
propose B y
deliver B->A PreAccept
deliver B->D PreAccept
deliver *->B PreAcceptOK
crash B
drop B->*
recover E B.0
deliver E->C Recover
deliver E->D Recover
deliver *->E RecoverOK
finish
""")


@pytest.fixture
def hasty_driver(monkeypatch: Patch) -> None:
    """Promises to others leave before their records are durable."""
    owe = Replica._owe

    def send_first(self: Replica, effects: Effects[Message], now: float) -> None:
        effects.promises = [((self.row,), message) for message in self._send(effects.promises)]
        owe(self, effects, now)

    monkeypatch.setattr(Replica, "_owe", send_first)
    monkeypatch.setitem(DIALECTS, "epaxos", EPAXOS._replace(check_promise=lambda *_: None))


@pytest.mark.usefixtures("hasty_driver")
def test_a_lost_record_and_its_slot_used_again() -> None:
    with pytest.raises(BROKEN, match=r"two decisions for A\.0"):
        Script("""
cluster n=3
hold A
propose A c1
deliver A->B PreAccept
crash A
restart A
propose A c2
drop A->C
deliver A->B PreAccept
deliver B->A PreAcceptOK
crash A
drop A->*
finish
""")


@pytest.mark.usefixtures("hasty_driver")
def test_a_lost_record_and_its_slot_left_alone() -> None:
    with pytest.raises(BROKEN, match=r"two decisions for B\.0"):
        Script("""
cluster n=5
hold A
propose A x
deliver A->C PreAccept
crash A
restart A
drop A->*
propose B y
deliver B->A PreAccept
deliver B->D PreAccept
deliver *->B PreAcceptOK
crash B
drop B->*
recover E B.0
deliver E->C Recover
deliver E->D Recover
deliver *->E RecoverOK
finish
""")


def test_a_list_that_depends_on_no_annulled_write(monkeypatch: Patch) -> None:
    commit = State.commit

    def forget(self: State, instance: Instance, value: Value, deps: Vector, seq: int) -> None:
        commit(self, instance, value, deps, seq)
        if value is NOP:
            self.conflicts._writes[instance.id.row].pop(ALL, None)

    monkeypatch.setattr(State, "commit", forget)
    monkeypatch.setattr(Watch, "_check_answer", lambda *_: None)
    with pytest.raises(BROKEN, match=r"2\.1 was proposed without regard to its own row"):
        play("4.15")
