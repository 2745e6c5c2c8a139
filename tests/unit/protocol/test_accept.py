"""Protocol 4.6: asking for votes, and voting."""

from __future__ import annotations

import pytest

from epaxos.protocol.contract import Effects
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Commit,
    Message,
    Missing,
    Nack,
    PreAccept,
    PreAcceptOK,
    Recover,
)
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import NOP, Phase, Value
from harness.commands import put
from harness.probe import FAST_PATH_TIMEOUT, RETRY, Probe, asks_only, is_quiet, sendings, sent, sent_to

OWN = InstanceId(0, 0)
PLACE = InstanceId(1, 3)
COMMAND = put(1, b"x")
NONE = (-1, -1, -1)
DEPS = (4, 1, -1)


def slow(probe: Probe) -> Effects[Message]:
    """Bring the instance `OWN` to its slow path; the effects of the answer that did it."""
    probe.persisted(probe.propose(COMMAND))
    n = probe.core.state.n
    for peer in range(1, n):
        deps = tuple(0 if row == peer else -1 for row in range(n))
        effects = probe.receive(peer, PreAcceptOK(OWN, deps, peer))
        if sent(effects, AcceptOK):
            return effects
    raise AssertionError("no slow path")


# -- the acceptor ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ballot", [0, 5])
@pytest.mark.parametrize(("value", "deps", "seq"), [(COMMAND, DEPS, 6), (NOP, NONE, 0)])
def test_a_vote_is_recorded_and_answered_only_then(
    ballot: int, value: Value, deps: tuple[int, ...], seq: int
) -> None:
    probe = Probe()
    effects = probe.receive(2, Accept(PLACE, ballot, value, deps, seq))
    instance = probe.instance(*PLACE)
    assert effects.records == [instance]
    assert effects.promises == [((2,), AcceptOK(PLACE, ballot))]
    assert effects.messages == effects.deferrable == []
    assert (instance.bal, instance.abal, instance.phase) == (ballot, ballot, Phase.ACCEPTED)
    assert (instance.value, instance.deps, instance.seq) == (value, deps, seq)
    assert instance.init is None


def test_a_vote_replaces_what_was_pre_accepted_and_keeps_what_was_proposed() -> None:
    probe = Probe()
    probe.receive(1, PreAccept(PLACE, COMMAND, (-1, 2, -1), 3))
    probe.receive(1, Accept(PLACE, 0, COMMAND, DEPS, 6))
    instance = probe.instance(*PLACE)
    assert (instance.phase, instance.deps, instance.seq) == (Phase.ACCEPTED, DEPS, 6)
    assert instance.init == (COMMAND, (-1, 2, -1), 3)


def test_a_vote_without_payload_is_for_the_one_that_was_pre_accepted() -> None:
    probe = Probe()
    probe.receive(1, PreAccept(PLACE, COMMAND, NONE, 0))
    effects = probe.receive(1, Accept(PLACE, 0, None, DEPS, 6))
    assert sendings(effects) == [(1, AcceptOK(PLACE, 0))]
    assert probe.instance(*PLACE).value == COMMAND


def test_an_accept_without_a_payload_that_is_known_is_no_vote_and_makes_the_replica_ask() -> None:
    probe = Probe()
    effects = probe.receive(1, Accept(PLACE, 0, None, DEPS, 6))
    assert sendings(effects) == [(1, Missing(PLACE))]
    assert asks_only(effects, "messages")
    assert probe.instance(*PLACE).phase is Phase.INITIAL
    again = probe.receive(1, Accept(PLACE, 0, COMMAND, DEPS, 6))
    assert sendings(again) == [(1, AcceptOK(PLACE, 0))]
    assert probe.instance(*PLACE).orig == COMMAND


def test_a_second_accept_is_answered_again_and_changes_nothing() -> None:
    probe = Probe()
    message = Accept(PLACE, 5, COMMAND, DEPS, 6)
    first = probe.receive(2, message)
    again = probe.receive(2, message)
    assert sendings(again) == sendings(first)
    assert probe.instance(*PLACE).abal == 5


def test_the_ballot_promised_and_the_ballot_voted_at_are_two() -> None:
    probe = Probe()
    probe.receive(2, Accept(PLACE, 5, COMMAND, DEPS, 6))
    probe.receive(1, Recover(PLACE, 7))
    instance = probe.instance(*PLACE)
    assert (instance.bal, instance.abal) == (7, 5)
    refused = probe.receive(2, Accept(PLACE, 5, COMMAND, DEPS, 6))
    assert sendings(refused) == [(2, Nack(PLACE, 7))]
    assert refused.records == []
    assert (instance.bal, instance.abal) == (7, 5)
    assert sendings(probe.receive(1, Accept(PLACE, 7, NOP, NONE, 0))) == [(1, AcceptOK(PLACE, 7))]
    assert (instance.bal, instance.abal) == (7, 7)


def test_a_ballot_that_was_never_promised_but_is_higher_gets_the_vote() -> None:
    probe = Probe()
    probe.receive(1, Recover(PLACE, 4))
    assert sendings(probe.receive(2, Accept(PLACE, 8, NOP, NONE, 0))) == [(2, AcceptOK(PLACE, 8))]
    assert sendings(probe.receive(1, Accept(PLACE, 4, COMMAND, DEPS, 6))) == [(1, Nack(PLACE, 8))]


def test_a_vote_for_no_op_forgets_no_payload() -> None:
    probe = Probe()
    probe.receive(1, PreAccept(PLACE, COMMAND, NONE, 0))
    probe.receive(2, Accept(PLACE, 5, NOP, NONE, 0))
    instance = probe.instance(*PLACE)
    assert instance.value is NOP
    assert instance.orig == COMMAND
    assert instance.init == (COMMAND, NONE, 0)


def test_an_owner_that_votes_at_a_higher_ballot_stops_coordinating() -> None:
    probe = Probe()
    slow(probe)
    probe.receive(2, Accept(OWN, 5, NOP, NONE, 0))
    assert is_quiet(probe.receive(1, AcceptOK(OWN, 0)))
    assert is_quiet(probe.receive(2, AcceptOK(OWN, 0)))
    assert not sent(probe.pass_time(3 * RETRY), Accept)
    assert probe.instance(*OWN).phase is Phase.ACCEPTED


# -- the coordinator ---------------------------------------------------------------------------------------


def test_votes_are_asked_for_once_the_own_is_recorded() -> None:
    probe = Probe()
    effects = slow(probe)
    instance = probe.instance(*OWN)
    assert effects.records == [instance]
    assert effects.messages == effects.deferrable == []
    assert sent(effects, Accept) == dict.fromkeys((1, 2), Accept(OWN, 0, None, (-1, 0, 0), 2))
    assert sent_to(effects, 0) == [AcceptOK(OWN, 0)]
    assert (instance.bal, instance.abal, instance.phase) == (0, 0, Phase.ACCEPTED)


@pytest.mark.parametrize(
    ("n", "f", "e"), [(2, 0, 0), (3, 1, 1), (4, 1, 1), (5, 2, 2), (5, 1, 1), (7, 3, 2), (7, 2, 1)]
)
def test_a_slow_quorum_of_votes_decides(n: int, f: int, e: int) -> None:
    probe = Probe(n, f=f, e=e)
    probe.persisted(slow(probe))
    for peer in range(1, n - f - 1):
        assert is_quiet(probe.receive(peer, AcceptOK(OWN, 0)))
    effects = probe.receive(n - f - 1, AcceptOK(OWN, 0))
    instance = probe.instance(*OWN)
    assert effects.records == [instance]
    assert instance.phase is Phase.COMMITTED
    assert sent(effects, Commit).keys() == set(range(1, n))
    assert effects.messages == effects.promises == []
    assert [(note.id, note.path) for note in effects.commits] == [(OWN, "slow")]


def test_the_own_vote_counts_only_when_it_is_durable() -> None:
    probe = Probe()
    effects = slow(probe)
    assert is_quiet(probe.receive(1, AcceptOK(OWN, 0)))
    assert sent(probe.persisted(effects), Commit)


def test_votes_are_counted_by_sender_and_ballot() -> None:
    probe = Probe(5)
    probe.persisted(slow(probe))
    assert is_quiet(probe.receive(1, AcceptOK(OWN, 0)))
    assert is_quiet(probe.receive(1, AcceptOK(OWN, 0)))
    assert is_quiet(probe.receive(2, AcceptOK(OWN, 7)))
    assert is_quiet(probe.receive(2, PreAcceptOK(OWN, (-1,) * 5, 0)))
    assert sent(probe.receive(3, AcceptOK(OWN, 0)), Commit)


def test_a_vote_before_votes_were_asked_for_does_not_count() -> None:
    probe = Probe()
    effects = probe.propose(COMMAND)
    probe.persisted(effects)
    assert is_quiet(probe.receive(1, AcceptOK(OWN, 0)))
    assert probe.instance(*OWN).phase is Phase.PREACCEPTED


def test_a_coordinator_that_promised_a_higher_ballot_counts_no_more_votes() -> None:
    probe = Probe()
    probe.persisted(slow(probe))
    probe.receive(2, Recover(OWN, 5))
    assert is_quiet(probe.receive(1, AcceptOK(OWN, 0)))
    assert probe.instance(*OWN).phase is Phase.ACCEPTED


def test_commits_carry_the_payload_only_to_those_who_were_not_sent_it() -> None:
    probe = Probe(5)
    probe.hint(4, online=False)
    probe.persisted(slow(probe))
    probe.receive(1, AcceptOK(OWN, 0))
    commits = sent(probe.receive(2, AcceptOK(OWN, 0)), Commit)
    assert {peer: commit.value for peer, commit in commits.items()} == {1: None, 2: None, 3: None, 4: COMMAND}
    assert {(commit.deps, commit.seq) for commit in commits.values()} == {((-1, 0, 0, -1, -1), 2)}


def test_accepts_carry_the_payload_to_those_who_were_not_sent_it() -> None:
    probe = Probe(7)
    probe.hint(6, online=False)
    probe.persisted(probe.propose(COMMAND))
    probe.core.state.online.add(6)
    for peer in (1, 2, 3):
        probe.receive(peer, PreAcceptOK(OWN, (-1,) * 7, 0))
    accepts = sent(probe.pass_time(FAST_PATH_TIMEOUT), Accept)
    assert {peer: accept.value for peer, accept in accepts.items()} == {
        **dict.fromkeys(range(1, 6)),
        6: COMMAND,
    }


def test_who_lacks_the_payload_of_an_accept_is_sent_it() -> None:
    probe = Probe(5)
    probe.persisted(slow(probe))
    effects = probe.receive(4, Missing(OWN))
    assert sendings(effects) == [(4, Accept(OWN, 0, COMMAND, (-1, 0, 0, 0, -1), 3))]
    probe.receive(3, AcceptOK(OWN, 0))
    assert is_quiet(probe.receive(3, Missing(OWN))), "it has answered"


def test_a_thrifty_coordinator_asks_a_slow_quorum() -> None:
    probe = Probe(7, 2, thrifty=True)
    probe.persisted(probe.propose(COMMAND))
    place = InstanceId(2, 0)
    for peer in (3, 4, 5):
        probe.receive(peer, PreAcceptOK(place, (-1,) * 7, 0))
    assert sent(probe.pass_time(FAST_PATH_TIMEOUT), Accept).keys() == {3, 4, 5}


def test_an_accept_is_sent_again_without_its_payload_to_all_who_are_silent() -> None:
    probe = Probe(5)
    probe.persisted(slow(probe))
    probe.receive(3, AcceptOK(OWN, 0))
    again = probe.pass_time(RETRY)
    message = Accept(OWN, 0, None, (-1, 0, 0, 0, -1), 3)
    assert set(sendings(again)) == {(peer, message) for peer in (1, 2, 4)}
    assert again.records == []
    assert set(sendings(probe.pass_time(RETRY * 3))) == {(peer, message) for peer in (1, 2, 4)}
    probe.receive(4, AcceptOK(OWN, 0))
    assert probe.instance(*OWN).phase is Phase.COMMITTED
    assert is_quiet(probe.pass_time(10 * RETRY))


def test_the_retries_of_an_accept_begin_when_it_is_sent() -> None:
    probe = Probe()
    probe.persisted(probe.propose(COMMAND))
    probe.pass_time(RETRY * 0.9)
    probe.receive(1, PreAcceptOK(OWN, (-1, 0, -1), 1))
    accepts = probe.receive(2, PreAcceptOK(OWN, (-1, -1, 0), 1))
    assert sent(accepts, Accept)
    assert not sent(probe.pass_time(RETRY * 0.2), Accept), "the timer of the PreAccept is not this message's"
    assert sent(probe.pass_time(RETRY * 0.85), Accept)
