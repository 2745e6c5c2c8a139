"""Proposals: their attempts, and what can be said of one that came to nothing."""

from __future__ import annotations

import pytest

from epaxos.protocol.registers.change import BLOCK, Verdict
from epaxos.protocol.registers.steps import SUPERSEDED, keep, once
from epaxos.protocol.registers.values import (
    AHEAD,
    EMPTY,
    FIRST,
    Accept,
    Ballot,
    Conflict,
    Peek,
    Prepare,
    Remove,
    State,
)
from register_rig import KEY, Rig, add, put


def test_two_round_trips_then_one() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    assert [rig.change(proposer, add).trips for _ in range(3)] == [2, 1, 1]
    assert rig.accepted() == [b"3"] * 3


def test_who_is_surely_the_first_needs_one_round_trip_and_others_find_it() -> None:
    rig = Rig()
    done = rig.change(rig.proposer(0), keep(b"first"), first=True)
    assert (done.verdict, done.trips, done.ballot) == (Verdict.DONE, 1, FIRST)
    assert rig.change(rig.proposer(1), keep(b"second")).result == b"first"


def test_the_first_that_comes_late_prepares() -> None:
    rig = Rig()
    assert rig.change(rig.proposer(1), keep(b"second"), to=(0, 1)).result == b"second"
    done = rig.change(rig.proposer(0), keep(b"first"), first=True, repeatable=True)
    assert (done.verdict, done.result, done.attempts) == (Verdict.DONE, b"second", 2)


def test_two_round_trips_always_if_not_direct() -> None:
    rig = Rig()
    proposer = rig.proposer(0, direct=False)
    assert [rig.change(proposer, add).trips for _ in range(3)] == [2, 2, 2]


def test_a_fresh_proposer_keeps_what_was_chosen() -> None:
    rig = Rig()
    assert rig.change(rig.proposer(0), keep(b"first")).result == b"first"
    assert rig.change(rig.proposer(1), keep(b"second")).result == b"first"


def test_a_refusal_tells_the_ballot_so_one_more_attempt_is_enough() -> None:
    rig = Rig()
    busy = rig.proposer(0, counter=500)
    for _ in range(3):
        rig.change(busy, add)
    done = rig.change(rig.proposer(1), add)
    assert (done.verdict, done.result, done.attempts) == (Verdict.DONE, 4, 2)


def test_one_dead_acceptor_of_three_changes_nothing() -> None:
    rig = Rig()
    done = rig.change(rig.proposer(0), add, to=(0, 2))
    assert (done.verdict, done.trips) == (Verdict.DONE, 2)


def test_without_promises_of_a_majority_it_surely_failed() -> None:
    rig = Rig()
    assert rig.change(rig.proposer(0), add, to=(0,)).verdict is Verdict.FAILED


def test_without_votes_of_a_majority_it_is_unknown() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    accepts = rig.deliver(proposer, rig.begin(proposer, add))
    rig.deliver(proposer, accepts, to=(0,))
    rig.now = 200.0
    assert proposer.tick(rig.now).done[0].verdict is Verdict.UNKNOWN


def overtaken(rig: Rig, taken_by: tuple[int, ...], **want: bool) -> tuple[Verdict, list[bytes | None]]:
    """A change whose Accepts reach some acceptors, and then others after somebody has prepared there."""
    first, second = rig.proposer(0), rig.proposer(1, counter=10)
    accepts = rig.deliver(first, rig.begin(first, add, **want))
    rig.deliver(first, accepts, to=taken_by)
    prepares = rig.begin(second, put(b"10"))
    rig.deliver(second, prepares, to=[a for a in range(3) if a not in taken_by])
    asks = rig.deliver(first, accepts, to=[a for a in range(3) if a not in taken_by])
    verdict = rig.finish(first, asks).verdict
    return verdict, list(rig.accepted())


def test_refused_by_all_for_ever_it_is_tried_again() -> None:
    assert overtaken(Rig(), taken_by=()) == (Verdict.DONE, [b"1"] * 3)


def test_taken_by_one_it_is_not_tried_again() -> None:
    assert overtaken(Rig(), taken_by=(0,))[0] is Verdict.UNKNOWN


def test_taken_by_one_it_is_tried_again_if_that_does_no_harm() -> None:
    assert overtaken(Rig(), taken_by=(0,), repeatable=True)[0] is Verdict.DONE


def test_a_read_that_finds_one_ballot_disturbs_nobody() -> None:
    rig = Rig()
    owner, reader = rig.proposer(0), rig.proposer(1)
    rig.change(owner, add)
    asks = rig.begin(reader, reads=True)
    assert all(isinstance(request, Peek) for _, request in asks.sends)
    assert rig.finish(reader, asks).result == b"1"
    assert rig.change(owner, add).trips == 1


def test_a_read_that_finds_a_mixture_makes_one_of_it_chosen() -> None:
    rig = Rig()
    owner, reader = rig.proposer(0), rig.proposer(1)
    accepts = rig.deliver(owner, rig.begin(owner, add))
    rig.deliver(owner, accepts, to=(0,))
    done = rig.change(reader, reads=True, to=(0, 1))
    assert (done.result, done.trips > 1) == (b"1", True)
    assert list(rig.accepted()) == [b"1", b"1", None]


def test_a_promise_that_was_used_in_vain_is_not_used_again() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    rig.change(proposer, add)
    asks = rig.begin(proposer, add)
    assert isinstance(asks.sends[0][1], Accept)
    rig.now = 300.0
    assert proposer.tick(rig.now).done[0].verdict is Verdict.UNKNOWN
    assert isinstance(rig.begin(proposer, add).sends[0][1], Prepare)


def test_proposals_of_one_key_wait_for_each_other() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    first = rig.begin(proposer, add)
    assert not rig.begin(proposer, add).sends
    accepts = rig.deliver(proposer, first)
    after = rig.deliver(proposer, accepts)
    assert after.done[0].result == 1
    assert isinstance(after.sends[0][1], Accept)


def test_who_waits_too_long_for_its_turn_surely_failed() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    rig.begin(proposer, add)
    rig.begin(proposer, add)
    rig.now = 200.0
    assert [done.verdict for done in proposer.tick(rig.now).done] == [Verdict.FAILED, Verdict.FAILED]


def test_counters_are_reserved_before_they_are_used_and_never_come_again() -> None:
    rig = Rig()
    asks = rig.begin(rig.proposer(0), add)
    assert asks.reserve == 1 + BLOCK
    again = rig.begin(rig.proposer(0, counter=asks.reserve), add)
    assert again.sends[0][1].ballot > Ballot(asks.reserve, 0)


def test_a_refusal_from_the_future_is_passed_over() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    asks = rig.begin(proposer, add)
    ballot = asks.sends[0][1].ballot
    for liar in range(3):
        proposer.take(liar, Conflict(KEY, ballot, Ballot(ballot.counter + AHEAD + 1, 9), never=True), rig.now)
    assert rig.finish(proposer, asks).attempts == 1


def test_once() -> None:
    rig = Rig()
    changes = [once(add, client=7, number=1), once(add, client=7, number=1), once(add, client=8, number=1)]
    results = [rig.change(rig.proposer(id_, 100 * id_), change).result for id_, change in enumerate(changes)]
    assert results == [1, 1, 2]
    assert rig.change(rig.proposer(5, 900), once(add, client=7, number=0)).result is SUPERSEDED


def test_a_change_in_vain_is_remembered() -> None:
    """A copy of a deletion comes late, when there is something to delete: its client was told that there was
    nothing."""

    def delete(state: State) -> tuple[State, bool]:
        return state._replace(value=None), state.value is not None

    rig = Rig()
    late = once(delete, client=7, number=1)
    assert rig.change(rig.proposer(0), late).result is False
    rig.change(rig.proposer(1, 100), put(b"v"))
    rig.change(rig.proposer(2, 200), late)
    assert list(rig.accepted()) == [b"v"] * 3


@pytest.mark.parametrize(("n", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_no_minority_decides(n: int, needed: int) -> None:
    assert Rig(n).change(Rig(n).proposer(0), add, to=range(needed - 1)).verdict is Verdict.FAILED
    rig = Rig(n)
    assert rig.change(rig.proposer(0), add, to=range(needed)).verdict is Verdict.DONE


def test_nothing_is_tried_again_after_a_collection() -> None:
    """Somebody finishes an attempt, deletes what it made, and has it collected: its proposer cannot know any more."""
    rig = Rig()
    first, second = rig.proposer(0), rig.proposer(1, counter=10)
    once_more = once(add, client=7, number=1)
    accepts = rig.deliver(first, rig.begin(first, once_more, repeatable=True))
    rig.deliver(first, accepts, to=(0,))
    assert rig.change(second, to=(0, 1)).state.value == b"1"
    rig.change(second, lambda _: (EMPTY, None))
    tombstone = rig.change(second, everywhere=True).ballot
    assert all(voter.ask(Remove(KEY, tombstone)) for voter in rig.voters)
    assert not any(voter.cells for voter in rig.voters)
    asks = rig.deliver(first, accepts, to=(1, 2))
    assert rig.finish(first, asks).verdict is Verdict.UNKNOWN
    assert list(rig.accepted()) == [None] * 3


def test_a_refusal_and_a_silence_do_not_stop_it() -> None:
    rig = Rig()
    ahead, late = rig.proposer(2, 5), rig.proposer(1)
    rig.deliver(ahead, rig.begin(ahead, put(b"a")), to=(0,))
    done = rig.change(late, put(b"b"), to=(0, 1))
    assert (done.verdict, done.attempts) == (Verdict.DONE, 2)
