"""The acceptor's comparisons, one by one."""

from __future__ import annotations

import pytest

from epaxos.errors import FrameError
from epaxos.protocol.registers.values import (
    AHEAD,
    EMPTY,
    FIRST,
    VOTERS,
    ZERO,
    Accept,
    Accepted,
    Ballot,
    Conflict,
    Peek,
    Prepare,
    Promise,
    Remove,
    Removed,
    Seen,
    State,
)
from register_rig import KEY, Voter

ONE, TWO, THREE = Ballot(1, 0), Ballot(2, 0), Ballot(3, 0)
VALUE = State(b"v")


def test_a_promise_tells_what_was_accepted() -> None:
    voter = Voter()
    assert voter.ask(Prepare(KEY, ONE)) == Promise(KEY, ONE, ZERO, EMPTY)
    assert voter.ask(Accept(KEY, ONE, VALUE)) == Accepted(KEY, ONE)
    assert voter.ask(Prepare(KEY, TWO)) == Promise(KEY, TWO, ONE, VALUE)


def test_the_first_ballot_is_taken_where_nobody_has_asked_before() -> None:
    voter = Voter()
    assert voter.ask(Accept(KEY, FIRST, VALUE, TWO)) == Accepted(KEY, FIRST)
    assert voter.ask(Prepare(KEY, ONE)) == Conflict(KEY, ONE, TWO, never=True)
    assert voter.ask(Prepare(KEY, THREE)) == Promise(KEY, THREE, FIRST, VALUE)
    assert voter.ask(Accept(KEY, FIRST, VALUE, TWO)) == Accepted(KEY, FIRST)  # a second copy
    promised = Voter()
    promised.ask(Prepare(KEY, ONE))
    assert promised.ask(Accept(KEY, FIRST, VALUE)) == Conflict(KEY, FIRST, ONE, never=True)


def test_the_first_ballot_does_not_lower_what_a_removal_has_promised() -> None:
    voter = Voter()
    voter.core.floor = TWO
    assert voter.ask(Accept(KEY, FIRST, VALUE)) == Accepted(KEY, FIRST)
    assert voter.ask(Prepare(KEY, ONE)) == Conflict(KEY, ONE, TWO, never=False)
    assert voter.ask(Prepare(KEY, THREE)) == Promise(KEY, THREE, FIRST, VALUE, TWO)


def test_what_is_below_the_promise_is_refused_with_the_ballot_in_the_way() -> None:
    voter = Voter()
    voter.ask(Prepare(KEY, TWO))
    assert voter.ask(Prepare(KEY, ONE)) == Conflict(KEY, ONE, TWO, never=True)
    assert voter.ask(Accept(KEY, ONE, VALUE)) == Conflict(KEY, ONE, TWO, never=True)


def test_of_two_equal_counters_the_higher_proposer_wins() -> None:
    voter = Voter()
    voter.ask(Prepare(KEY, Ballot(1, 2)))
    assert isinstance(voter.ask(Prepare(KEY, Ballot(1, 1))), Conflict)
    assert isinstance(voter.ask(Prepare(KEY, Ballot(1, 3))), Promise)


def test_a_second_copy_of_an_accept_is_answered_like_the_first() -> None:
    voter = Voter()
    accept = Accept(KEY, ONE, VALUE, following=TWO)
    assert voter.ask(accept) == voter.ask(accept) == Accepted(KEY, ONE)


def test_who_took_a_later_ballot_of_the_same_proposer_cannot_say_never() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, TWO, VALUE))
    assert voter.ask(Accept(KEY, ONE, VALUE)) == Conflict(KEY, ONE, TWO, never=False)


def test_who_took_only_what_others_proposed_says_never() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, Ballot(2, 1), VALUE))
    assert voter.ask(Accept(KEY, ONE, VALUE)) == Conflict(KEY, ONE, Ballot(2, 1), never=True)


def test_a_copy_of_what_was_taken_before_others_is_known_again() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, ONE, VALUE))
    voter.ask(Accept(KEY, Ballot(2, 1), VALUE))
    assert voter.ask(Accept(KEY, ONE, VALUE)) == Accepted(KEY, ONE)
    assert voter.cells[KEY].accepted == Ballot(2, 1)


def test_of_proposers_that_were_too_many_to_remember_nobody_says_never() -> None:
    voter = Voter()
    for proposer in range(VOTERS + 1):
        voter.ask(Accept(KEY, Ballot(5, proposer), VALUE))
    assert len(voter.cells[KEY].voted) == VOTERS
    assert voter.ask(Accept(KEY, Ballot(4, 99), VALUE)) == Conflict(
        KEY, Ballot(4, 99), Ballot(5, VOTERS), never=False
    )


def test_the_following_ballot_is_a_promise() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, ONE, VALUE, following=THREE))
    assert voter.ask(Prepare(KEY, TWO)) == Conflict(KEY, TWO, THREE, never=True)


def test_a_peek_promises_nothing() -> None:
    voter = Voter()
    assert voter.ask(Peek(KEY, TWO)) == Seen(KEY, TWO, ZERO, EMPTY)
    assert isinstance(voter.ask(Prepare(KEY, ONE)), Promise)


def test_a_tombstone_goes_only_if_nothing_was_promised_since() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, ONE, EMPTY))
    voter.ask(Prepare(KEY, TWO))
    assert voter.ask(Remove(KEY, ONE)) == Removed(KEY, ONE, done=False)
    voter.ask(Accept(KEY, TWO, EMPTY))
    assert voter.ask(Remove(KEY, TWO)) == Removed(KEY, TWO, done=True)
    assert not voter.cells


def test_after_a_removal_nothing_from_before_is_taken() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, TWO, EMPTY))
    voter.ask(Remove(KEY, TWO))
    for request in (Prepare(KEY, TWO), Accept(KEY, TWO, EMPTY), Accept(KEY, ONE, VALUE)):
        assert voter.ask(request) == Conflict(KEY, request.ballot, TWO, never=False)
    assert voter.ask(Remove(KEY, TWO)) == Removed(KEY, TWO, done=True)
    assert isinstance(voter.ask(Prepare(KEY, THREE)), Promise)


def test_a_value_is_not_removed() -> None:
    voter = Voter()
    voter.ask(Accept(KEY, ONE, VALUE))
    assert voter.ask(Remove(KEY, ONE)) == Removed(KEY, ONE, done=False)


@pytest.mark.parametrize(
    "request_",
    [Prepare(KEY, Ballot(AHEAD + 1, 0)), Accept(KEY, ONE, VALUE, following=Ballot(AHEAD + 1, 0))],
    ids=["prepare", "following"],
)
def test_a_ballot_from_the_future_is_refused_and_changes_nothing(request_: Prepare | Accept) -> None:
    voter = Voter()
    with pytest.raises(FrameError, match="from the future") as caught:
        voter.ask(request_)
    assert caught.value.kind == "future"
    assert isinstance(voter.ask(Prepare(KEY, ONE)), Promise)
