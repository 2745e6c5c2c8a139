"""Protocol 6.11: who has no vote follows, is not listened to, and knows how old its state is."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from epaxos.protocol.contract import Effects, PeerStatus, Propose, Receive, Tick
from epaxos.protocol.epaxos.messages import (
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    PreAccept,
    PreAcceptOK,
    RecoverOK,
)
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.kinds import EPAXOS, KINDS, MULTIPAXOS
from epaxos.protocol.log import Phase
from epaxos.protocol.multipaxos import messages as led
from epaxos.protocol.quorums import Quorums
from epaxos.protocol.reads import ReadIndex, ReadIndexOK
from epaxos.protocol.spectator import Freshness, Spectator
from harness.alone import Alone
from harness.commands import barrier, get, put

NONE = (-1, -1, -1)
QUORUMS = Quorums(3, 1, 1)
PLACE = InstanceId(1, 0)
COMMAND = put(1, b"k")
END = barrier(1, *NONE)
INTERVAL = 0.1
GUEST = 3


class Following:
    """A spectator of three voters, and the clock."""

    def __init__(self, protocol: str = EPAXOS.name) -> None:
        kind = KINDS[protocol]
        core = kind.make(kind.settings(row=3, quorums=QUORUMS), Random(1), None)
        self.core = Spectator(core, kind, QUORUMS, INTERVAL, 100)
        self.now = 1.0

    def take(self, event: Any) -> Effects[Any]:
        return self.core.on_event(event, self.now)

    def hear(self, sender: int, message: Any) -> Effects[Any]:
        return self.take(Receive(sender, message))

    def ask(self) -> int:
        [(receivers, question)] = self.take(Tick()).messages
        assert receivers == [0, 1, 2]
        assert isinstance(question, ReadIndex)
        return question.number


def committed(spectator: Following) -> Effects[Any]:
    return spectator.hear(1, Commit(PLACE, COMMAND, NONE, 0))


# -- following -----------------------------------------------------------------------------------------------


def test_it_asks_at_once_for_what_a_voter_has_decided_and_executes_it() -> None:
    following = Following()
    told = (-1, 0, -1)
    asked = following.hear(1, Beacon(told, told, NONE, NONE, NONE, 7))
    assert asked.messages == [((1,), CommitRequest(1, 0, 0))]
    effects = committed(following)
    assert [decided.id for [decided] in effects.executions] == [PLACE]
    assert [record.id for record in effects.records] == [PLACE]


def test_so_it_does_behind_a_leader() -> None:
    following = Following(MULTIPAXOS.name)
    beacon = led.Beacon(4, 0, 4, 1, (0, -1), (0, -1), (-1, -1), 7)
    assert following.hear(1, beacon).messages == [((1,), led.ChosenRequest(0, 0))]
    effects = following.hear(1, led.Chosen(0, COMMAND))
    assert [decided.id for [decided] in effects.executions] == [InstanceId(0, 0)]


@pytest.mark.parametrize(
    "message",
    [
        PreAccept(PLACE, COMMAND, NONE, 0),
        AcceptOK(PLACE, 0),
        RecoverOK(PLACE, 3, 0, Phase.INITIAL, None, NONE, 0, None),
        ReadIndex(1, [b"k"]),
    ],
)
def test_it_takes_part_in_nothing(message: Any) -> None:
    effects = Following().hear(1, message)
    assert not [*effects.messages, *effects.promises, *effects.records]


def test_what_is_proposed_waits_for_who_takes_it_elsewhere() -> None:
    following = Following()
    assert not following.take(Propose(COMMAND)).messages
    assert following.core.left() == [COMMAND]


def test_it_comes_to_the_end_of_an_epoch() -> None:
    following = Following()
    effects = following.hear(1, Commit(PLACE, END, NONE, 0))
    assert effects.over is not None
    assert following.core.deadline == math.inf, "nothing is asked about an epoch that is over"


# -- at those that vote --------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [PreAcceptOK(InstanceId(0, 0), NONE, 0), AcceptOK(InstanceId(0, 0), 0)])
def test_no_answer_of_one_without_a_vote_counts(message: Any) -> None:
    alone = Alone()
    alone.take(Propose(COMMAND))
    effects = alone.hear(GUEST, message)
    assert not [*effects.commits, *effects.messages, *effects.promises, *effects.deferrable]


def test_it_is_told_what_is_decided_and_what_is_known_of() -> None:
    alone = Alone()
    alone.learn(PLACE, COMMAND)
    alone.hear(2, PreAccept(InstanceId(2, 0), get(2, b"j"), NONE, 0))
    told = alone.hear(GUEST, CommitRequest(1, 0, 5)).promises
    assert told == [((GUEST,), Commit(PLACE, COMMAND, NONE, 0))]
    answer = alone.hear(GUEST, ReadIndex(7, ())).messages
    assert answer == [((GUEST,), ReadIndexOK(7, (-1, 0, 0)))], "reads and undecided ones too"
    assert alone.hear(GUEST, Beacon(NONE, NONE, NONE, NONE, NONE, 9)).messages == [((GUEST,), Echo(9))]


# -- how old its state is ------------------------------------------------------------------------------------


def test_its_age_counts_from_when_enough_were_asked_once_what_they_knew_has_executed() -> None:
    following = Following()
    number = following.ask()
    following.now = 2.0
    assert following.hear(0, ReadIndexOK(number, NONE)).as_of is None, "one of two"
    assert following.hear(1, ReadIndexOK(number, (-1, 0, -1))).as_of is None, "it has not executed"
    assert committed(following).as_of == 1.0


def test_two_answers_of_one_voter_are_one() -> None:
    following = Following()
    first = following.ask()
    following.now = 2.0
    second = following.ask()
    following.hear(0, ReadIndexOK(first, NONE))
    assert following.hear(0, ReadIndexOK(second, NONE)).as_of is None
    assert following.hear(1, ReadIndexOK(first, NONE)).as_of == 1.0, "the older of two questions counts"


def test_an_answer_to_a_question_of_before_a_restart_tells_nothing() -> None:
    following = Following()
    following.ask()
    for voter in (0, 1, 2):
        assert following.hear(voter, ReadIndexOK(7, NONE)).as_of is None


def test_nothing_is_told_of_an_epoch_that_is_over() -> None:
    """The next one may have answered by then what no voter of this one can tell of."""
    following = Following()
    number = following.ask()
    for voter in (0, 1):
        following.hear(voter, ReadIndexOK(number, (-1, 0, -1)))
    effects = following.hear(1, Commit(PLACE, END, NONE, 0))
    assert effects.over is not None
    assert effects.as_of is None


def test_it_asks_at_its_interval_and_only_those_that_are_there() -> None:
    following = Following()
    following.take(PeerStatus(2, online=False))
    [(receivers, _)] = following.take(Tick()).messages
    assert receivers == [0, 1]
    assert following.core.deadline == following.now + INTERVAL
    assert not following.take(Tick()).messages
    for voter in (0, 1):
        following.take(PeerStatus(voter, online=False))
    assert following.core.deadline == math.inf


def test_one_voter_that_knows_of_what_is_never_decided_keeps_back_nothing() -> None:
    freshness = Freshness(1)
    freshness.on_answer(0, 1.0, (5, -1, -1))
    freshness.on_answer(1, 2.0, (-1, 5, -1))
    freshness.on_answer(2, 3.0, NONE)
    freshness.on_executed((4, 5, -1))
    assert freshness.as_of == 2.0
