"""What may follow an epoch (protocol 6.9)."""

from __future__ import annotations

import pytest

from epaxos.protocol.membership import Configuration
from epaxos.protocol.quorums import Quorums
from harness.members import members

FIVE = members(5)


@pytest.mark.parametrize(
    ("thresholds", "f", "e"),
    [((None, None), 2, 2), ((1, None), 1, 1), ((None, 1), 2, 1), ((2, 0), 2, 0), ((0, None), 0, 0)],
)
def test_what_is_not_given_stays_if_it_may(thresholds: tuple[int | None, int | None], f: int, e: int) -> None:
    following = FIVE.next(7, *thresholds)
    assert following == FIVE._replace(epoch=1, request=7, f=f, e=e)
    assert following.quorums == Quorums(5, f, e)
    assert FIVE.followed_by(following) == following


@pytest.mark.parametrize("thresholds", [(3, None), (1, 2), (-1, None)])
def test_thresholds_that_do_not_fit_together_are_refused(thresholds: tuple[int, int | None]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        FIVE.next(7, *thresholds)


@pytest.mark.parametrize(
    "said",
    [
        FIVE._replace(epoch=2, request=7),
        FIVE._replace(epoch=1, request=7, f=3),
        FIVE._replace(epoch=1, request=7, names=FIVE.names[::-1]),
        FIVE._replace(epoch=1, request=7, protocol="multipaxos"),
    ],
)
def test_what_cannot_follow_changes_nothing_and_stops_nobody(said: Configuration) -> None:
    assert FIVE.followed_by(said) == FIVE.next(7)
