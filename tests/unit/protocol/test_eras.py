"""Which core hears what, and what those get who lag (protocol 6.7)."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from epaxos.protocol.contract import Core, Ended, PeerStatus
from epaxos.protocol.eras import Eras
from epaxos.protocol.transfer import EpochOver

PEERS = (1, 2)
CUT = (3, 4, 5)


class Told:
    """A core of which nothing is asked but what it says of itself."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def beacon(self, _: float) -> str:
        return f"beacon of {self.epoch}"


class Era(NamedTuple):
    epoch: int
    core: Core[Any]


def era(epoch: int) -> Era:
    return Era(epoch, cast("Core[Any]", Told(epoch)))


def test_a_message_is_for_the_core_of_its_epoch_and_for_none_where_that_is_gone() -> None:
    eras = Eras(era(0), PEERS, PEERS)
    first = eras.running
    eras.next(era(1), CUT)
    assert [eras.of(epoch) for epoch in range(3)] == [first, eras.running, None]
    assert eras.forget_below(1) == [first]
    assert eras.of(0) is None


def test_a_peer_is_there_once_it_is_heard_in_the_running_epoch() -> None:
    eras = Eras(era(0), PEERS, PEERS)
    eras.on_heard(1, 1)  # it is first to come to the next epoch
    assert eras.next(era(1), CUT) == [PeerStatus(1, online=True), PeerStatus(2, online=False)]
    assert eras.on_heard(2, 0) == []
    assert eras.on_heard(2, 1) == [PeerStatus(2, online=True)]
    assert eras.on_heard(2, 1) == [], "it is told once"
    assert eras.on_link(2, online=False) == [PeerStatus(2, online=False)]
    assert eras.on_heard(2, 1) == [], "not without a link"
    assert eras.on_link(2, online=True) == []
    assert eras.on_heard(2, 1) == [PeerStatus(2, online=True)]


def test_who_lags_gets_the_beacon_of_its_epoch_or_hears_that_it_is_over() -> None:
    eras = Eras(era(0), PEERS, PEERS)
    eras.next(era(1), CUT)
    assert eras.behind
    eras.on_heard(1, 1)
    eras.on_heard(2, 0)
    assert eras.for_laggard(1, 0.0) == []
    assert eras.for_laggard(2, 0.0) == [(0, "beacon of 0")]
    eras.forget_below(1)
    assert eras.for_laggard(2, 0.0) == [(1, EpochOver(0, CUT))]
    eras.on_heard(2, 2)
    assert eras.for_laggard(2, 0.0) == [], "it is ahead"


def test_of_cuts_only_those_are_kept_that_a_peer_may_be_told_of() -> None:
    eras = Eras(era(0), PEERS, PEERS)
    for epoch in range(1, 9):
        eras.next(era(epoch), (epoch, 0, 0))
        eras.on_heard(1, epoch)
        eras.on_heard(2, min(epoch, 3))
    eras.forget_below(8)
    assert eras.for_laggard(2, 0.0) == [(8, EpochOver(3, (4, 0, 0)))]
    assert len(eras._cuts) <= len(PEERS) + 1


def test_who_hears_that_its_epoch_is_over_expects_nothing_more_of_the_peer_in_it() -> None:
    eras = Eras(era(0), PEERS, PEERS)
    assert eras.on_over(1, EpochOver(0, CUT)) == [PeerStatus(1, online=False), Ended(CUT)]
    assert eras.on_over(1, EpochOver(0, None)) == [Ended(None)]
    assert eras.on_over(1, EpochOver(7, None)) == [], "of another epoch"


def test_a_checkpoint_of_a_later_epoch_stands_for_all_before() -> None:
    eras = Eras(era(0), PEERS, PEERS)
    eras.next(era(1), CUT)
    eras.on_heard(2, 5)
    assert eras.replace(era(5)) == [PeerStatus(1, online=False), PeerStatus(2, online=True)]
    assert eras.of(0) is eras.of(1) is None
    assert [each.epoch for each in eras.all] == [5]
