"""One core, message by message: what a leader, a candidate and an acceptor may say and believe (multipaxos 2)."""

from __future__ import annotations

import math
from functools import partial
from random import Random
from typing import Any

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.contract import (
    Adopt,
    Checkpointed,
    Durable,
    Effects,
    Hold,
    Lead,
    News,
    PeerStatus,
    Propose,
    Read,
    Receive,
    Retire,
    Tick,
)
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot
from epaxos.protocol.log import NOP, Instance, Value
from epaxos.protocol.multipaxos.core import MultiPaxos
from epaxos.protocol.multipaxos.learning import SLOTS_PER_REQUEST
from epaxos.protocol.multipaxos.messages import (
    DECIDED,
    NOBODY,
    Accept,
    AcceptOK,
    Beacon,
    Chosen,
    ChosenRequest,
    Commit,
    Echo,
    Forward,
    Handover,
    Message,
    Missing,
    Nack,
    Prepare,
    Promised,
    Truncated,
    Voted,
)
from epaxos.protocol.multipaxos.state import FARTHEST_SLOT, VIEW, Learn, Settings
from epaxos.protocol.quorums import make_quorums
from epaxos.protocol.reads import ReadIndex, ReadIndexOK
from harness.commands import barrier, put

A, B, C = put(1, b"a"), put(2, b"b"), put(3, b"c")


class Lone:
    """One core of three, replica 0, with a disk and without peers: the test is the peers.

    `sent` are the messages of the last event to others, `executed` the slots and values that have executed.
    """

    def __init__(
        self, *, n: int = 3, learn: Learn = Learn.VOTES, retain: int = 1 << 20, durable: Durable | None = None
    ) -> None:
        settings = Settings(0, make_quorums(n), learn, retain=retain)
        self.core = MultiPaxos(settings, Random(1), durable)
        self.now = 0.0
        self.disk: dict[InstanceId, Instance] = {}
        self.effects: list[Effects[Message]] = []
        self.sent: list[tuple[tuple[Row, ...], Message]] = []
        self.executed: list[tuple[Slot, Value]] = []

    def event(self, event: Any) -> None:
        """Let something happen, and what follows from the replica's messages to itself."""
        self.effects, self.sent = [], []
        waiting = [event]
        while waiting:
            effects = self.core.on_event(waiting.pop(0), self.now)
            self.effects.append(effects)
            self.disk.update({record.id: record for record in effects.records})
            for receivers, message in (*effects.messages, *effects.promises, *effects.deferrable):
                if 0 in receivers:
                    waiting.append(Receive(0, message))
                if others := tuple(row for row in receivers if row):
                    self.sent.append((others, message))
            self.executed += [(decided.id.slot, decided.value) for (decided,) in effects.executions]

    def get(self, sender: Row, *messages: Message) -> None:
        """Let messages arrive, as if in one event for what was sent."""
        sent = []
        for message in messages:
            self.event(Receive(sender, message))
            sent += self.sent
        self.sent = sent

    def campaign(self) -> Ballot:
        """Let time pass until the core campaigns."""
        for _ in range(100):
            self.now += 0.1
            self.event(Tick())
            for _, message in self.sent:
                if isinstance(message, Prepare):
                    return message.ballot
        raise AssertionError("no campaign")

    def lead(self) -> Ballot:
        """Campaign and win, with nothing voted elsewhere."""
        ballot = self.campaign()
        self.get(1, Promised(ballot, self.core.state.committed + 1, (), -1))
        return ballot

    def kinds(self) -> list[str]:
        """The names of what was sent in the last event."""
        return [type(message).__name__ for _, message in self.sent]


def test_a_leader_proposes_after_a_quorum_and_executes_what_a_quorum_votes_for() -> None:
    core = Lone()
    ballot = core.lead()
    core.event(Propose(A))
    assert ((1, 2), Accept(ballot, 0, A, -1)) in core.sent
    assert not core.executed
    core.get(2, AcceptOK(ballot, 0))
    assert core.executed == [(0, A)]
    assert core.core.in_flight == 0


def test_of_the_votes_of_a_quorum_that_of_the_highest_ballot_is_proposed_again() -> None:
    core = Lone(n=5)
    ballot = core.campaign()
    core.get(1, Promised(ballot, 0, ((0, 0), (2, 2)), -1), Voted(ballot, 0, 6, A), Voted(ballot, 2, 6, C))
    core.get(2, Promised(ballot, 0, ((0, 0),), -1), Voted(ballot, 0, 8, B))
    proposed = {
        message.slot: message.value
        for _, message in core.sent
        if isinstance(message, Accept) and message.ballot
    }
    assert proposed == {0: B, 1: NOP, 2: C}


def test_a_promise_counts_when_each_vote_that_it_names_has_come() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Voted(ballot, 2, 4, C), Promised(ballot, 0, ((0, 2),), -1), Voted(ballot, 2, 4, C))
    assert core.core.status().leader is None
    core.get(1, Voted(ballot, 1, 4, B))
    assert core.core.status().leader is None
    core.get(1, Voted(ballot, 0, 4, A))
    assert core.core.status().leader == 0


def test_what_a_promiser_drops_while_it_answers_is_fetched_and_not_annulled() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Promised(ballot, 0, ((0, 2),), -1), Voted(ballot, 2, 4, C))
    core.get(1, Promised(ballot, 1, ((2, 2),), 1))
    assert core.core.status().leader == 0
    assert {message.slot for _, message in core.sent if isinstance(message, Accept)} == {2}
    assert [1] in [effects.fetch for effects in core.effects]


def test_a_leader_without_what_lies_below_its_start_lets_another_try() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Promised(ballot, 0, (), 5))
    assert core.core.status().leader == 0
    core.get(1, Beacon(ballot, 0, ballot, 1, (5, -1), (5, -1), (5, -1), 1))
    for _ in range(60):
        core.now += 0.1
        core.event(Tick())
    assert core.core.status().leader != 0


def test_the_word_of_a_leader_decides_only_what_was_voted_for_at_its_ballot() -> None:
    core = Lone(learn=Learn.COMMITS)
    core.get(1, Accept(4, 0, A, -1))
    core.get(2, Commit(5, 0))
    assert not core.executed
    core.get(2, Accept(5, 0, B, -1))
    assert core.executed == [(0, B)]


def test_votes_of_others_decide_nothing_without_the_own_one() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, A, -1))
    core.get(1, AcceptOK(7, 0))
    core.get(2, AcceptOK(7, 0))
    assert not core.executed


def test_what_a_beacon_says_makes_one_ask_and_decides_nothing() -> None:
    core = Lone(learn=Learn.COMMITS)
    core.get(1, Accept(4, 0, A, -1))
    ahead = Beacon(5, 5, 5, 1, (0, -1), (0, -1), (-1, -1), 7)
    core.get(2, ahead)
    assert not core.executed
    assert ((2,), ChosenRequest(0, 0)) in core.sent
    core.get(2, Chosen(0, B))
    assert core.executed == [(0, B)]
    assert core.disk[InstanceId(0, 0)].value == B


def test_who_has_dropped_what_is_missing_is_not_asked_as_long_as_another_one_has_it() -> None:
    def beacon(dropped: Slot) -> Beacon:
        return Beacon(5, 5, 5, 1, (9, -1), (9, -1), (dropped, -1), 7)

    def asked() -> list[Row]:
        return [row for rows, message in core.sent if isinstance(message, ChosenRequest) for row in rows]

    core = Lone()
    core.get(1, beacon(-1))
    assert asked() == [1]
    core.now += 1.0
    core.get(1, Echo(core.core.beacon(core.now).stamp))  # nothing came of that
    core.get(2, beacon(4))
    assert asked() == []
    core.event(PeerStatus(1, online=False))
    core.get(2, beacon(4))
    assert asked() == [2]


def test_a_leader_whose_slot_was_decided_otherwise_gives_no_word_any_more() -> None:
    core = Lone(n=5, learn=Learn.COMMITS)
    ballot = core.campaign()
    core.get(1, Promised(ballot, 0, (), -1))
    core.get(2, Promised(ballot, 0, (), -1))
    core.event(Propose(A))
    core.get(3, Chosen(0, B))
    assert core.core.status().leader != 0
    assert not {"Commit", "Accept"} & set(core.kinds())


def test_a_leader_behind_what_others_have_dropped_gives_no_word_any_more() -> None:
    core = Lone(learn=Learn.COMMITS)
    ballot = core.lead()
    core.event(Propose(A))
    core.get(1, Truncated(3))
    assert core.core.status().leader != 0
    core.get(1, AcceptOK(ballot, 0))
    assert not core.sent
    assert core.effects[0].fetch == []


def test_an_acceptor_keeps_its_promise_and_says_which() -> None:
    core = Lone()
    core.get(2, Prepare(8, 0))
    assert core.disk[VIEW].bal == 8
    core.get(1, Accept(4, 0, A, -1))
    assert core.sent == [((1,), Nack(8))]
    core.get(1, Prepare(7, 0))
    assert core.sent == [((1,), Nack(8))]


def test_an_acceptor_tells_its_votes_and_decisions_from_a_slot_on() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, A, -1), Accept(4, 1, B, -1), Accept(4, 3, C, 0))
    core.get(2, Prepare(8, 0))
    assert [message for _, message in core.sent] == [
        Promised(8, 0, ((0, 1), (3, 3)), -1),
        Voted(8, 0, DECIDED, A),
        Voted(8, 1, 4, B),
        Voted(8, 3, 4, C),
    ]


def test_who_has_not_got_a_value_says_so_and_is_sent_it_once_a_round_trip() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, None, -1))
    assert core.sent == [((1,), Missing(4, 0))]
    leader = Lone()
    ballot = leader.lead()
    leader.event(Propose(A))
    leader.get(2, Missing(ballot, 0))
    assert leader.sent == [((2,), Accept(ballot, 0, A, -1))]


def test_a_follower_forwards_again_to_who_leads_next() -> None:
    core = Lone()
    core.get(1, Beacon(4, 4, 4, 1, (-1, -1), (-1, -1), (-1, -1), 1))
    core.event(Propose(A))
    assert core.sent == [((1,), Forward(A, 0))]
    core.get(2, Beacon(5, 5, 5, 1, (-1, -1), (-1, -1), (-1, -1), 1))
    assert ((2,), Forward(A, 0)) in core.sent


def test_a_command_is_passed_on_once() -> None:
    core = Lone()
    core.get(1, Beacon(4, 4, 4, 1, (-1, -1), (-1, -1), (-1, -1), 1))
    core.get(2, Forward(A, 0))
    assert core.sent == [((1,), Forward(A, 1))]
    core.get(2, Forward(A, 1))
    assert not core.sent


def test_a_restart_keeps_promise_votes_and_what_the_view_covers() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, A, -1), Accept(4, 1, B, 0))
    core.get(2, Prepare(8, 0))
    again = Lone(durable=Durable(list(core.disk.values()), (-1, -1), (-1, -1), ()))
    effects = again.core.resume(0.0)
    assert [decided.value for (decided,) in effects.executions] == [A]
    again.get(1, Accept(7, 2, C, -1))
    assert again.sent == [((1,), Nack(8))]
    assert again.campaign() > 8


def test_the_promise_outlives_the_dropping_of_the_log() -> None:
    core = Lone(retain=0)
    core.get(1, Accept(4, 0, A, -1), Accept(4, 1, B, 0))
    cut = core.core.cut()
    assert list(iter(partial(cut.absorb, 10), None)) == [News((), ()), News((), [b"a"])]
    core.event(Checkpointed(cut.executed))
    assert core.effects[0].truncate == (0, -1)
    core.get(2, Prepare(8, 0))
    assert core.sent[0][1] == Promised(8, 0, ((1, 1),), 0)
    core.get(2, ChosenRequest(0, 1))
    assert core.sent == [((2,), Truncated(0))]


def test_the_later_values_are_those_of_who_has_executed_more() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, A, -1), Commit(4, 0))
    assert core.executed == [(0, A)]
    for theirs in (-1, 0, 1):
        later = core.core.compare((theirs, -1), ()).later([b"a", b"never touched"])
        assert later == [theirs > 0, theirs > 0]


def test_an_adopted_checkpoint_stands_for_the_log_and_what_it_may_have_swallowed_is_told() -> None:
    core = Lone()
    core.get(1, Beacon(4, 4, 4, 1, (-1, -1), (-1, -1), (-1, -1), 1))
    core.event(Propose(C))
    core.event(Hold((5, -1), ()))
    core.get(1, Accept(4, 6, A, -1), Commit(4, 6))
    assert not core.executed
    core.event(Adopt((5, -1), ()))
    assert core.executed == [(6, A)]
    assert core.effects[0].overtaken == [C]
    assert core.core.in_flight == 0
    core.event(Propose(C))
    assert core.sent == [((1,), Forward(C, 0))]


def test_what_is_decided_counts_more_than_any_vote() -> None:
    for answers in [(2, 1), (1, 2)]:
        core = Lone(n=5)
        ballot = core.campaign()
        votes = {1: Voted(ballot, 0, 4, A), 2: Voted(ballot, 0, DECIDED, B)}
        for sender in answers:
            core.get(sender, Promised(ballot, 0, ((0, 0),), -1), votes[sender])
        assert core.core.status().leader == 0
        assert core.executed == [(0, B)]


def test_what_a_candidate_has_voted_for_gives_way_to_what_is_decided() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, A, -1))
    ballot = core.campaign()
    core.get(2, Promised(ballot, 0, ((0, 0),), -1), Voted(ballot, 0, DECIDED, B))
    assert core.executed == [(0, B)]


def test_a_candidate_that_knows_of_a_higher_ballot_does_not_lead() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Accept(ballot + 1, 5, None, -1))
    core.get(2, Promised(ballot, 0, (), -1))
    assert core.core.status().leader != 0


def test_a_campaign_ends_with_the_beacon_that_tells_of_a_higher_ballot() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Beacon(ballot + 1, ballot + 1, ballot + 1, 1, (5, -1), (5, -1), (-1, -1), 1))
    core.get(1, Chosen(2, C))
    core.get(2, Promised(ballot, 0, (), -1))
    assert core.core.coverage.get("campaign failed") == 1
    assert core.core.status().leader == 1
    core.event(Propose(A))
    assert core.sent == [((1,), Forward(A, 0))]


def test_a_candidate_that_learns_a_decision_above_all_votes_for_it_has_been_outvoted() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Chosen(2, C))
    core.get(2, Promised(ballot, 0, (), -1))
    assert core.core.status().leader is None
    assert core.core.coverage.get("candidate outvoted") == 1
    assert core.lead() > ballot or core.campaign() > ballot


def test_a_decision_that_the_quorum_has_told_of_outvotes_nobody() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Chosen(2, C))
    core.get(2, Promised(ballot, 0, ((2, 2),), -1), Voted(ballot, 2, 4, C))
    assert core.core.status().leader == 0
    for command in (A, B):
        core.event(Propose(command))
    assert {message.slot for _, message in core.sent if isinstance(message, Accept)} == {4}


def test_an_own_campaign_is_over_when_a_higher_ballot_is_promised() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Prepare(ballot + 1, 0))
    assert core.core.coverage.get("campaign failed") == 1


def test_a_leader_that_promises_a_higher_ballot_leads_no_more() -> None:
    core = Lone()
    ballot = core.lead()
    core.get(2, Prepare(ballot + 2, 0))
    core.event(Propose(A))
    assert "Accept" not in core.kinds()
    assert core.core.in_flight == 1


def test_a_leader_is_replaced_by_the_beacon_of_another_and_forwards_to_it() -> None:
    core = Lone()
    ballot = core.lead()
    core.get(2, Beacon(ballot + 2, ballot + 2, ballot + 2, 1, (-1, -1), (-1, -1), (-1, -1), 1))
    core.event(Propose(A))
    assert core.sent == [((2,), Forward(A, 0))]


def test_a_leader_whose_proposals_are_not_chosen_is_not_happy() -> None:
    core = Lone()
    ballot = core.lead()
    core.event(Propose(A))
    for _ in range(50):
        core.now += 0.1
        core.get(1, Beacon(ballot, 0, ballot, 1, (-1, -1), (-1, -1), (-1, -1), 1))
    assert core.core.beacon(core.now).happy == 0
    core.get(1, AcceptOK(ballot, 0))
    assert core.core.beacon(core.now).happy == 1


def test_votes_at_different_ballots_are_not_counted_together() -> None:
    core = Lone()
    core.get(2, AcceptOK(7, 0))
    core.get(1, Accept(4, 0, A, -1))
    assert not core.executed
    core.get(1, AcceptOK(4, 0))
    assert not core.executed


def test_nobody_votes_where_the_log_is_dropped() -> None:
    core = Lone()
    core.event(Hold((5, -1), ()))
    core.event(Adopt((5, -1), ()))
    core.get(1, Accept(4, 3, A, -1))
    assert core.sent == [((1,), Truncated(5))]
    assert InstanceId(0, 3) not in core.disk


def test_a_leader_that_adopts_what_lies_above_its_proposals_gives_no_word_on_them() -> None:
    core = Lone(learn=Learn.COMMITS)
    core.lead()
    core.event(Propose(A))
    core.event(Hold((5, -1), ()))
    core.event(Adopt((5, -1), ()))
    assert core.core.status().leader is None
    assert not {"Commit", "Accept"} & set(core.kinds())


def test_a_leader_takes_a_command_again_that_an_adopted_checkpoint_swallowed() -> None:
    core = Lone()
    ballot = core.campaign()
    core.get(1, Promised(ballot, 0, (), 5))
    core.get(1, Forward(A, 0))
    core.get(1, AcceptOK(ballot, 6))
    assert core.core.state.decided(6) is not None
    core.event(Hold((6, -1), ()))
    core.event(Adopt((6, -1), ()))
    assert core.core.status().leader == 0
    core.get(1, Forward(A, 0))
    assert ((1, 2), Accept(ballot, 7, A, 6)) in core.sent


def nothing_done(known: Ballot, leads: Ballot, follows: Ballot) -> Beacon:
    """The beacon of a happy peer that has decided nothing."""
    return Beacon(known, leads, follows, 1, (-1, -1), (-1, -1), (-1, -1), 1)


def test_a_follower_forwards_again_when_the_same_replica_leads_anew() -> None:
    core = Lone()
    core.get(1, nothing_done(4, 4, 4))
    core.event(Propose(A))
    core.get(1, nothing_done(4, 4, 4))
    assert "Forward" not in core.kinds()
    core.get(1, nothing_done(7, 7, 7))
    assert ((1,), Forward(A, 0)) in core.sent
    core.get(1, nothing_done(7, 7, 7))
    assert "Forward" not in core.kinds()


def test_who_hears_no_leader_forwards_as_soon_as_somebody_does() -> None:
    core = Lone()
    core.event(PeerStatus(1, online=False))
    core.event(Propose(A))
    core.get(2, nothing_done(4, NOBODY, NOBODY))
    assert "Forward" not in core.kinds()
    core.get(2, nothing_done(4, NOBODY, 4))
    assert ((2,), Forward(A, 0)) in core.sent
    core.event(Propose(B))
    assert core.sent == [((2,), Forward(B, 0))]


def test_what_cannot_be_in_use_is_not_heeded() -> None:
    core = Lone()
    far, above = 2**60, FARTHEST_SLOT
    core.get(1, Accept(4, above, A, -1), Accept(far, 0, A, -1), Chosen(above, A), Prepare(far, 0), Nack(far))
    core.get(1, nothing_done(far, NOBODY, NOBODY), nothing_done(4, far, 4), nothing_done(4, 4, far))
    core.get(1, AcceptOK(far, 0), AcceptOK(4, far), Commit(far, 0), Promised(4, 0, (), far))
    assert not core.sent
    assert not core.disk
    assert core.core.status().ballot == NOBODY
    core.get(1, Accept(4, above - 1, A, -1))
    assert core.kinds() == ["AcceptOK"]
    assert core.campaign() == 6


def test_an_answer_holds_so_many_slots_and_the_candidate_asks_on() -> None:
    acceptor = Lone()
    for slot in range(SLOTS_PER_REQUEST + 5):
        acceptor.get(1, Accept(4, slot, NOP, -1))
    acceptor.get(2, Prepare(5, 0))
    promise, *votes = (message for _, message in acceptor.sent)
    assert isinstance(promise, Promised)
    assert len(votes) == SLOTS_PER_REQUEST + 1
    candidate = Lone()
    ballot = candidate.campaign()
    candidate.get(1, promise._replace(ballot=ballot))
    asked = []
    for slot in range(len(votes)):
        candidate.get(1, Voted(ballot, slot, 4, NOP))
        asked += [message for _, message in candidate.sent if isinstance(message, Prepare)]
    assert asked == [Prepare(ballot, SLOTS_PER_REQUEST + 1)]


def test_who_would_have_to_learn_much_before_it_leads_campaigns_last() -> None:
    behind, abreast = Lone(), Lone()
    for core, told in ((behind, SLOTS_PER_REQUEST + 1), (abreast, 0)):
        core.get(1, Beacon(0, 0, 0, 0, (told, -1), (-1, -1), (-1, -1), 1))
        core.campaign()
    assert behind.now > abreast.now + 0.7


def test_a_leader_that_stops_hands_over_to_who_follows_it_next() -> None:
    core = Lone(n=5)
    ballot = core.campaign()
    core.get(1, Promised(ballot, 0, (), -1))
    core.get(2, Promised(ballot, 0, (), -1))
    core.get(1, nothing_done(ballot, NOBODY, NOBODY))
    core.get(3, nothing_done(ballot, NOBODY, ballot))
    core.get(2, nothing_done(ballot, NOBODY, ballot))
    core.event(Retire())
    assert core.sent == [((2,), Handover(ballot))]
    assert core.core.beacon(core.now).happy == 0
    core.event(Propose(A))
    assert "Accept" in core.kinds(), "until somebody else leads"


def test_who_is_handed_over_to_campaigns_at_once_unless_that_is_over() -> None:
    core = Lone()
    core.get(1, nothing_done(4, 4, 4), Handover(4))
    assert "Prepare" in core.kinds()
    for late in (Handover(4), Handover(3)):
        core.get(1, late)
        assert "Prepare" not in core.kinds()
    retired = Lone()
    retired.event(Retire())
    retired.get(1, nothing_done(4, 4, 4), Handover(4))
    assert "Prepare" not in retired.kinds()


def test_commands_get_nowhere_where_no_leader_is_heard_of_for_long() -> None:
    core = Lone()
    lost = []
    for seconds, happy in ((0.0, 0), (2.5, 0), (1.0, 0), (0.1, 1)):
        core.now += seconds
        core.get(1, nothing_done(4, NOBODY, 4)._replace(happy=happy))
        core.event(Tick())
        lost.append(core.core.lost)
    assert lost == [False, False, True, False]


def test_commands_get_nowhere_at_a_leader_that_has_long_lost_its_quorum() -> None:
    core = Lone()
    core.lead()
    core.event(PeerStatus(1, online=False))
    core.event(PeerStatus(2, online=False))
    for _ in range(60):
        core.now += 0.1
        core.event(Tick())
    assert core.core.status().leader == 0
    assert core.core.lost


def test_a_leader_that_proposes_what_is_decided_is_told_so() -> None:
    core = Lone()
    core.get(2, Chosen(0, B))
    core.get(1, Accept(4, 0, A, -1))
    assert core.sent == [((1,), Chosen(0, B))]


def test_a_durable_cut_has_the_view_say_what_is_decided() -> None:
    core = Lone()
    core.get(1, Accept(4, 0, A, -1), AcceptOK(4, 0))
    assert core.executed
    core.event(Checkpointed((0, -1)))
    assert [record.id for effects in core.effects for record in effects.records] == [VIEW]


def test_a_leader_proposes_a_forwarded_command_once() -> None:
    core = Lone()
    core.lead()
    core.get(1, Forward(A, 0), Forward(A, 0))
    assert core.kinds().count("Accept") == 1


# -- the end of an epoch (protocol 6.4 to 6.6) -----------------------------------------------------------------

END = barrier(9, -1, -1)


def ended() -> Lone:
    """A leader that has come to the end: A at slot 0, the barrier at 1; B was asked for after that."""
    lone = Lone()
    ballot = lone.lead()
    lone.event(Propose(A))
    lone.event(Propose(END))
    lone.event(Propose(B))
    assert lone.core.quiet
    for slot in (0, 1):
        lone.get(1, AcceptOK(ballot, slot))
    return lone


def test_a_barrier_ends_the_epoch_at_the_prefix_up_to_it_and_says_what_is_left() -> None:
    lone = ended()
    assert lone.executed == [(0, A), (1, END)]
    [over] = [effects.over for effects in lone.effects if effects.over is not None]
    assert (over.barrier.id, over.cut, list(over.left)) == (InstanceId(0, 1), (1, -1), [B])
    assert lone.core.deadline == math.inf
    assert list(lone.core.left()) == [B]
    lone.event(Propose(C))
    assert [effects.over and list(effects.over.left) for effects in lone.effects] == [[B, C]]


def test_what_speaks_of_slots_that_nobody_has_heard_of_is_not_proposed() -> None:
    with pytest.raises(InvariantError, match="above all that was heard of"):
        Lone().event(Propose(barrier(9, 4, -1)))


def test_nothing_is_proposed_behind_a_barrier() -> None:
    lone = ended()
    assert set(lone.disk) == {InstanceId(0, 0), InstanceId(0, 1), VIEW}


def test_that_the_end_is_decided_is_durable_before_it_executes() -> None:
    """Else a restart would stand before an end behind which it has promised something (protocol 6.8)."""
    lone = ended()
    assert lone.disk[VIEW].deps == (1, -1)
    again = Lone(durable=Durable(list(lone.disk.values()), (-1, -1), (-1, -1), ()))
    assert again.core.resume(0.0).over is not None


def test_who_has_come_to_the_end_says_what_is_decided_and_promises_nothing() -> None:
    lone = ended()
    lone.get(1, Prepare(100 * 3 + 1, 0))
    assert lone.sent == []
    lone.get(1, Accept(100 * 3 + 1, 1, C, -1), Accept(100 * 3 + 1, 2, C, -1))
    assert lone.sent == [((1,), Chosen(1, END))]
    lone.get(1, ChosenRequest(0, 5))
    assert [message for _, message in lone.sent] == [Chosen(0, A), Chosen(1, END)]
    lone.event(Tick())
    lone.event(PeerStatus(1, online=True))
    assert lone.sent == []
    assert all(not effects.records for effects in lone.effects)


def test_a_barrier_that_another_leader_has_overwritten_ends_nothing() -> None:
    lone = Lone()
    lone.get(1, Accept(4, 0, END, -1))
    assert lone.core.quiet
    lone.get(2, Accept(8, 0, NOP, -1))
    assert not lone.core.quiet


def test_who_led_before_campaigns_at_once() -> None:
    lone = Lone()
    lone.event(Lead())
    assert "Prepare" in lone.kinds()


def test_a_read_waits_until_all_has_executed_that_a_replica_of_a_quorum_knows_of() -> None:
    core = Lone()
    core.event(Read(7, [b"k"]))
    assert core.sent == [((1,), ReadIndex(7, [b"k"]))]
    core.get(1, ReadIndexOK(7, (1, -1)))
    core.get(1, Chosen(0, A))
    assert not any(effects.reads for effects in core.effects)
    core.get(1, Chosen(1, B))
    assert [effects.reads for effects in core.effects if effects.reads] == [[7]]
    core.get(2, ReadIndex(1, [b"k"]))
    assert core.sent == [((2,), ReadIndexOK(1, (1, -1)))]


def test_each_reader_asks_those_behind_itself_first() -> None:
    """Or all would ask replica 0."""
    cores = [MultiPaxos(Settings(row, make_quorums(3)), Random(1)) for row in range(3)]
    asked = [core.on_event(Read(7, [b"k"]), 0.0).messages[0][0] for core in cores]
    assert list(map(tuple, asked)) == [(1,), (2,), (0,)]


def test_a_read_that_waits_for_what_may_never_be_decided_goes_to_the_log() -> None:
    core = Lone()
    core.event(Read(7, [b"k"]))
    core.get(1, ReadIndexOK(7, (5, -1)))
    unread = []
    for _ in range(2):
        core.now += 1.0
        core.event(Tick())
        unread += [number for effects in core.effects for number in effects.unread]
    assert unread == [7]


def test_nothing_is_read_while_a_checkpoint_is_merged_nor_after_the_end() -> None:
    core = Lone()
    core.event(Hold((2, -1), ()))
    core.event(Read(7, [b"k"]))
    core.get(1, ReadIndexOK(7, (2, -1)))
    assert not any(effects.reads for effects in core.effects)
    core.event(Adopt((2, -1), ()))
    assert [effects.reads for effects in core.effects if effects.reads] == [[7]]
    core.event(Read(8, [b"k"]))
    core.get(1, Chosen(3, barrier(4, -1, -1)))
    assert [effects.unread for effects in core.effects if effects.unread] == [[8]]
    core.event(Read(9, [b"k"]))
    assert core.effects[0].unread == [9]
