"""Protocol 4.5: proposing, answering, and the three ways on from there."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.contract import Effects
from epaxos.protocol.epaxos.commit import HASTENED
from epaxos.protocol.epaxos.messages import (
    Accept,
    Commit,
    Message,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
)
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import Phase
from epaxos.protocol.quorums import allowed, make_quorums
from harness.commands import put
from harness.probe import FAST_PATH_TIMEOUT, RETRY, Probe, asks_only, is_quiet, sendings, sent, sent_to

OWN = InstanceId(0, 0)
COMMAND = put(1, b"x")


def outcome(effects: Effects[Message]) -> str:
    """How a coordinator reacts to an answer."""
    if any(isinstance(message, Commit) for _, message in sendings(effects)) or effects.commits:
        return "fast"
    return "slow" if sent(effects, Accept) else "wait"


def proposed(probe: Probe) -> Effects[Message]:
    """Propose, and let the own answer count."""
    effects = probe.propose(COMMAND)
    probe.persisted(effects)
    return effects


def same(n: int) -> PreAcceptOK:
    return PreAcceptOK(OWN, (-1,) * n, 0)


def other(n: int, peer: int) -> PreAcceptOK:
    """An answer with a dependency on the peer's own row."""
    return PreAcceptOK(OWN, tuple(0 if row == peer else -1 for row in range(n)), 1)


# -- Propose -----------------------------------------------------------------------------------------------


def test_a_proposal_is_recorded_and_leaves_only_then() -> None:
    probe = Probe()
    effects = probe.propose(COMMAND)
    instance = probe.instance(*OWN)
    assert effects.records == [instance]
    assert (instance.phase, instance.bal, instance.abal) == (Phase.PREACCEPTED, 0, 0)
    assert instance.value == instance.orig == COMMAND
    assert instance.init == (COMMAND, instance.deps, instance.seq)
    assert effects.messages == effects.deferrable == []
    assert sent(effects, PreAccept) == dict.fromkeys(
        (1, 2), PreAccept(OWN, COMMAND, instance.deps, instance.seq)
    )


def test_the_own_answer_counts_only_when_the_own_record_is_durable() -> None:
    probe = Probe()
    effects = probe.propose(COMMAND)
    assert outcome(probe.receive(1, same(3))) == "wait"
    assert outcome(probe.persisted(effects)) == "fast"


def test_a_single_replica_decides_when_its_record_is_durable() -> None:
    probe = Probe(n=1)
    effects = probe.propose(COMMAND)
    assert sent_to(effects, 0) == [same(1)]
    decided = probe.persisted(effects)
    assert [note.path for note in decided.commits] == ["fast"]
    assert [[member.id for member in component] for component in decided.executions] == [[OWN]]
    assert sendings(decided) == []


# -- the answer of an acceptor -----------------------------------------------------------------------------


def test_a_second_pre_accept_is_answered_as_the_first() -> None:
    probe = Probe()
    message = PreAccept(InstanceId(1, 0), COMMAND, (-1, -1, -1), 0)
    first = probe.receive(1, message)
    probe.propose(put(2, b"x"))
    probe.receive(2, PreAccept(InstanceId(2, 0), put(3, b"x"), (-1, -1, -1), 7))
    second = probe.receive(1, message)
    assert sendings(second) == sendings(first) == [(1, PreAcceptOK(InstanceId(1, 0), (-1, -1, -1), 0))]
    assert second.records == []


def test_after_a_promise_to_a_higher_ballot_a_pre_accept_is_refused() -> None:
    probe = Probe()
    place = InstanceId(1, 0)
    probe.receive(2, Recover(place, 5))
    effects = probe.receive(1, PreAccept(place, COMMAND, (-1, -1, -1), 0))
    assert sendings(effects) == [(1, Nack(place, 5))]
    assert effects.records == []
    assert probe.instance(*place).phase is Phase.INITIAL
    assert probe.instance(*place).orig is None


def test_after_a_vote_a_pre_accept_is_refused() -> None:
    probe = Probe()
    place = InstanceId(1, 0)
    probe.receive(1, Accept(place, 0, COMMAND, (-1, -1, 4), 9))
    effects = probe.receive(1, PreAccept(place, COMMAND, (-1, -1, -1), 0))
    assert sendings(effects) == [(1, Nack(place, 0))]
    instance = probe.instance(*place)
    assert (instance.phase, instance.deps, instance.seq) == (Phase.ACCEPTED, (-1, -1, 4), 9)


# -- fast, slow, or wait -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "f", "e", "answers", "expected"),
    [
        # the owner's own answer is the first of each line; the last decides
        (2, 0, 0, "ss", "fast"),
        (2, 0, 0, "sd", "slow"),
        (3, 1, 1, "ss", "fast"),
        (3, 1, 1, "sd", "wait"),
        (3, 1, 1, "sds", "fast"),
        (3, 1, 1, "sdd", "slow"),
        (3, 1, 0, "ss", "wait"),
        (3, 1, 0, "sss", "fast"),
        (3, 1, 0, "sd", "slow"),
        (3, 0, 0, "sd", "wait"),
        (3, 0, 0, "sds", "slow"),
        (4, 1, 1, "ssd", "wait"),
        (4, 1, 1, "sdd", "slow"),
        (4, 1, 1, "ssds", "fast"),
        (5, 2, 2, "ss", "wait"),
        (5, 2, 2, "sss", "fast"),
        (5, 2, 2, "sdd", "wait"),
        (5, 2, 2, "sddd", "slow"),
        (5, 2, 2, "ssdd", "wait"),
        (5, 2, 2, "ssdds", "fast"),
        (5, 2, 2, "ssddd", "slow"),
        (5, 1, 1, "sddd", "slow"),
        (5, 1, 1, "sdd", "wait"),
        (5, 1, 1, "sssd", "wait"),
        (5, 2, 0, "ssd", "slow"),
        (5, 2, 0, "ssss", "wait"),
        (7, 3, 2, "ssss", "wait"),
        (7, 3, 2, "sssss", "fast"),
        (7, 3, 2, "ssdd", "wait"),
        (7, 3, 2, "sddd", "slow"),
        (7, 3, 2, "ssddd", "slow"),
        (7, 3, 2, "sssddss", "fast"),
    ],
)
def test_decisions(n: int, f: int, e: int, answers: str, expected: str) -> None:
    probe = Probe(n, f=f, e=e)
    proposed(probe)
    reaction = "wait"
    for peer, kind in enumerate(answers[1:], start=1):
        assert reaction == "wait", "the line goes on after the decision"
        reaction = outcome(probe.receive(peer, same(n) if kind == "s" else other(n, peer)))
    assert reaction == expected


@given(st.data())
def test_decisions_are_those_of_the_rule(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 9))
    f, e = data.draw(st.sampled_from([(f, e) for f in range(n) for e in range(n) if allowed(n, f, e)]))
    quorums = make_quorums(n, f, e)
    probe = Probe(n, f=f, e=e)
    proposed(probe)
    equal = answers = 1
    for peer in data.draw(st.permutations(range(1, n))):
        unchanged = data.draw(st.booleans())
        reaction = outcome(probe.receive(peer, same(n) if unchanged else other(n, peer)))
        equal, answers = equal + unchanged, answers + 1
        if equal >= quorums.fast:
            assert reaction == "fast"
            return
        if answers >= quorums.slow and answers - equal > n - quorums.fast:
            assert reaction == "slow"
            return
        assert reaction == "wait"
    raise AssertionError("all have answered, and nothing is decided")


@pytest.mark.parametrize(
    ("n", "answers", "expected"),
    [
        (3, "ss", "fast"),
        (3, "sd", "slow"),
        (5, "sss", "fast"),
        (5, "ssd", "slow"),
        (7, "sssd", "slow"),
        (7, "ssss", "wait"),
    ],
)
def test_a_thrifty_owner_waits_for_no_more_than_it_has_asked(n: int, answers: str, expected: str) -> None:
    probe = Probe(n, thrifty=True)
    asked = sorted(sent(proposed(probe), PreAccept))
    reaction = "wait"
    for peer, kind in zip(asked, answers[1:], strict=False):
        assert reaction == "wait"
        reaction = outcome(probe.receive(peer, same(n) if kind == "s" else other(n, peer)))
    assert reaction == expected


def test_the_fast_path_decides_what_the_owner_proposed_also_if_answers_hold_higher_sequence_numbers() -> None:
    probe = Probe()
    proposed(probe)
    effects = probe.receive(2, PreAcceptOK(OWN, (-1, -1, -1), 9))
    instance = probe.instance(*OWN)
    assert (instance.phase, instance.deps, instance.seq) == (Phase.COMMITTED, (-1, -1, -1), 0)
    assert instance.value == COMMAND
    assert effects.records == [instance], "durable before anyone hears of it"
    assert sent(effects, Commit).keys() == {1, 2}
    assert effects.promises == effects.messages == []


def test_the_slow_path_proposes_the_union_of_all_answers() -> None:
    probe = Probe(5)
    probe.receive(1, PreAccept(InstanceId(1, 2), COMMAND, (-1,) * 5, 1))
    proposed(probe)
    for peer, deps, seq in (
        (1, (-1, 2, -1, 0, -1), 3),
        (2, (-1, 4, 1, -1, -1), 8),
        (3, (-1, 2, -1, 5, -1), 0),
    ):
        effects = probe.receive(peer, PreAcceptOK(OWN, deps, seq))
    assert set(sent(effects, Accept).values()) == {Accept(OWN, 0, None, (-1, 4, 1, 5, -1), 8)}
    instance = probe.instance(*OWN)
    assert (instance.phase, instance.bal, instance.abal) == (Phase.ACCEPTED, 0, 0)
    assert (instance.value, instance.deps, instance.seq) == (COMMAND, (-1, 4, 1, 5, -1), 8)
    assert instance.init == (COMMAND, (-1, 2, -1, -1, -1), 2), "what was proposed stays on record"


# -- the fast-path timer (protocol 4.9, 2) -----------------------------------------------------------------


def test_when_the_fast_path_timer_fires_a_slow_quorum_is_enough() -> None:
    probe = Probe(7)
    proposed(probe)
    for peer in (1, 2, 3):
        assert is_quiet(probe.receive(peer, same(7)))
    assert is_quiet(probe.pass_time(FAST_PATH_TIMEOUT * 0.99))
    effects = probe.pass_time(FAST_PATH_TIMEOUT * 0.02)
    assert set(sent(effects, Accept).values()) == {Accept(OWN, 0, None, (-1,) * 7, 0)}
    assert is_quiet(probe.receive(4, same(7))), "too late for the fast path"


def test_the_fast_path_timer_runs_from_the_slow_quorum_on() -> None:
    probe = Probe(7)
    proposed(probe)
    probe.receive(1, same(7))
    probe.receive(2, same(7))
    assert is_quiet(probe.pass_time(2 * FAST_PATH_TIMEOUT))
    probe.receive(3, same(7))
    assert is_quiet(probe.pass_time(0.99 * FAST_PATH_TIMEOUT))
    assert sent(probe.pass_time(0.02 * FAST_PATH_TIMEOUT), Accept)


def test_the_fast_path_timer_of_something_decided_does_nothing() -> None:
    probe = Probe(7)
    proposed(probe)
    for peer in (1, 2, 3, 4):
        probe.receive(peer, same(7))
    assert probe.instance(*OWN).phase is Phase.COMMITTED
    assert is_quiet(probe.pass_time(FAST_PATH_TIMEOUT * 1.01))


# -- who is counted ----------------------------------------------------------------------------------------


def test_a_second_answer_of_one_sender_neither_counts_nor_replaces_the_first() -> None:
    probe = Probe(5)
    proposed(probe)
    probe.receive(1, other(5, 1))
    assert is_quiet(probe.receive(1, same(5)))
    assert is_quiet(probe.receive(1, same(5)))
    assert outcome(probe.receive(2, other(5, 2))) == "wait"
    effects = probe.receive(3, other(5, 3))
    assert {message.deps for message in sent(effects, Accept).values()} == {(-1, 0, 0, 0, -1)}


@pytest.mark.parametrize("deps", [(-1, -1, -1), (-1, 0, -1)])
def test_answers_after_the_decision_and_about_unknown_instances_change_nothing(deps: Vector) -> None:
    probe = Probe()
    proposed(probe)
    probe.receive(1, same(3))
    assert is_quiet(probe.receive(2, PreAcceptOK(OWN, deps, 0)))
    assert is_quiet(probe.receive(2, PreAcceptOK(InstanceId(0, 5), deps, 0)))
    assert is_quiet(probe.receive(2, PreAcceptOK(InstanceId(1, 5), deps, 0)))


def test_an_owner_that_promised_a_higher_ballot_counts_no_more_answers() -> None:
    probe = Probe()
    proposed(probe)
    probe.receive(1, Recover(OWN, 4))
    assert is_quiet(probe.receive(2, same(3)))
    assert probe.instance(*OWN).phase is Phase.PREACCEPTED


# -- whom to ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "row", "asked"), [(3, 0, {1}), (3, 2, {0}), (5, 3, {4, 0}), (7, 5, {6, 0, 1, 2}), (1, 0, set())]
)
def test_a_thrifty_owner_asks_as_few_as_a_fast_quorum_needs_beginning_behind_itself(
    n: int, row: int, asked: set[int]
) -> None:
    assert sent(Probe(n, row, thrifty=True).propose(COMMAND), PreAccept).keys() == asked


def test_a_thrifty_owner_asks_those_whom_it_is_told_to_prefer_as_long_as_they_are_online() -> None:
    probe = Probe(5, thrifty=True, preferred=(4, 2, 1, 3))
    assert sent(probe.propose(COMMAND), PreAccept).keys() == {4, 2}
    probe.hint(4, online=False)
    assert sent(probe.propose(COMMAND), PreAccept).keys() == {2, 1}


def test_peers_that_are_offline_are_not_asked_first() -> None:
    for thrifty, asked in ((False, {1, 3, 4}), (True, {3, 4})):
        probe = Probe(5, 2, thrifty=thrifty)
        probe.hint(0, online=False)
        assert sent(probe.propose(COMMAND), PreAccept).keys() == asked


def test_peers_that_are_back_are_asked_again() -> None:
    probe = Probe(3)
    probe.hint(2, online=False)
    probe.hint(2, online=True)
    assert sent(probe.propose(COMMAND), PreAccept).keys() == {1, 2}


@pytest.mark.parametrize("thrifty", [False, True])
def test_if_too_few_are_online_the_offline_are_asked_as_well(*, thrifty: bool) -> None:
    probe = Probe(5, thrifty=thrifty)
    for peer in (1, 2, 3):
        probe.hint(peer, online=False)
    assert len(sent(probe.propose(COMMAND), PreAccept)) == (2 if thrifty else 4)


def test_an_owner_that_has_not_asked_the_offline_does_not_wait_for_them() -> None:
    probe = Probe(5)
    probe.hint(3, online=False)
    probe.hint(4, online=False)
    proposed(probe)
    assert outcome(probe.receive(1, same(5))) == "wait"
    assert outcome(probe.receive(2, other(5, 2))) == "slow"


# -- sending again (protocol 4.9, 1) -----------------------------------------------------------------------


@pytest.mark.parametrize("thrifty", [False, True])
def test_a_pre_accept_is_sent_again_to_all_who_are_silent(*, thrifty: bool) -> None:
    probe = Probe(5, thrifty=thrifty)
    probe.hint(4, online=False)
    proposed(probe)
    probe.receive(1, other(5, 1))
    assert is_quiet(probe.pass_time(RETRY * 0.99))
    again = probe.pass_time(RETRY * 0.02)
    never_asked = (3, 4) if thrifty else (4,)
    assert sent(again, PreAccept) == dict.fromkeys(never_asked, PreAccept(OWN, COMMAND, (-1,) * 5, 0))
    assert sent(again, Offer) == dict.fromkeys({2, 3, 4} - {*never_asked}, Offer(OWN))
    assert again.records == []
    probe.pass_time(RETRY)
    assert not sent(probe.pass_time(10 * RETRY), PreAccept), "no payload is sent twice unasked"


def test_the_payload_is_sent_again_to_who_says_that_it_is_missing_unless_it_is_under_way() -> None:
    probe = Probe()
    probe.core.state.measured(1, 0.1)
    proposed(probe)
    assert is_quiet(probe.receive(1, Missing(OWN))), "an answer to what was asked before the payload left"
    probe.pass_time(0.5)
    effects = probe.receive(1, Missing(OWN))
    assert sendings(effects) == [(1, PreAccept(OWN, COMMAND, (-1, -1, -1), 0))]
    assert is_quiet(probe.receive(1, Missing(OWN)))
    assert is_quiet(probe.receive(2, Missing(InstanceId(0, 7)))), "nothing is known of that"


def test_an_offer_promises_nothing() -> None:
    """A replica that was sent no payload has not pre-accepted, and answers what it promised before, if it has."""
    probe = Probe()
    place = InstanceId(1, 0)
    effects = probe.receive(1, Offer(place))
    assert sendings(effects) == [(1, Missing(place))]
    assert asks_only(effects, "messages")
    assert probe.core.state.logs.get(place) is None
    answer = sendings(probe.receive(1, PreAccept(place, COMMAND, (-1, -1, -1), 0)))
    assert sendings(probe.receive(1, Offer(place))) == answer
    probe.receive(2, Recover(place, 5))
    assert sendings(probe.receive(1, Offer(place))) == [(1, Nack(place, 5))]


def test_only_those_are_asked_again_who_have_had_the_time_to_answer() -> None:
    probe = Probe()
    probe.core.state.measured(2, 1.0)  # so 3 s with what it may deviate
    proposed(probe)
    assert sent(probe.pass_time(RETRY), Offer).keys() == {1}
    while probe.now < 3.0:
        assert sent(probe.pass_time(0.05), Offer).keys() <= {1}
    probe.now = 6.0
    assert sent(probe.pass_time(0.0), Offer).keys() == {1, 2}


def test_a_thrifty_owner_asks_the_nearest() -> None:
    probe = Probe(5, thrifty=True)
    for peer, seconds in ((1, 0.08), (2, 0.02), (3, 0.0201), (4, 0.05)):
        probe.core.state.measured(peer, seconds)
    assert sent(proposed(probe), PreAccept).keys() == {2, 3}


def test_after_sending_to_all_a_thrifty_owner_waits_for_all() -> None:
    probe = Probe(5, thrifty=True)
    proposed(probe)
    probe.pass_time(RETRY)
    assert outcome(probe.receive(1, other(5, 1))) == "wait"
    assert outcome(probe.receive(2, other(5, 2))) == "wait"
    assert outcome(probe.receive(4, other(5, 4))) == "slow"


def test_intervals_double_with_jitter_up_to_a_limit() -> None:
    probe = Probe(retry_limit=1.0)
    proposed(probe)
    moments = _retries(probe, 60.0)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments[0] == pytest.approx(RETRY, abs=0.02)
    for gap, interval in zip(gaps, (0.4, 0.8, *[1.0] * len(gaps)), strict=False):
        assert 0.5 * interval - 0.02 <= gap <= 1.5 * interval + 0.02
    assert len(moments) > 30, "it never stops"
    assert len({round(gap, 2) for gap in gaps}) > 10, "chance keeps the replicas apart"


def _retries(probe: Probe, seconds: float) -> list[float]:
    """When it is asked again for an answer to the PreAccept."""
    moments = []
    while probe.now < seconds:
        if sent(probe.pass_time(0.01), Offer):
            moments.append(probe.now)
    return moments


def test_peer_that_comes_back_is_asked_at_once() -> None:
    probe = Probe()
    proposed(probe)
    probe.hint(1, online=False)
    _retries(probe, 20.0)  # by now seconds lie between two of them
    assert sendings(probe.hint(1, online=True)) == [(1, Offer(OWN))], "only the one that is back is asked"
    assert _retries(probe, probe.now + 2 * RETRY), "the intervals begin anew"


def test_peer_that_comes_back_is_asked_for_some_at_once_and_for_others_in_turn() -> None:
    probe = Probe()
    probe.hint(1, online=False)
    for number in range(2 * HASTENED):
        probe.propose(put(number, b"%d" % number))
    at_once = sendings(probe.hint(1, online=True))
    assert at_once == [(1, Offer(InstanceId(0, slot))) for slot in range(HASTENED)]
    assert not sendings(probe.pass_time(0.99 * RETRY))
    later = [message for peer, message in sendings(probe.pass_time(1.02 * RETRY)) if peer == 1]
    assert len(later) >= HASTENED
