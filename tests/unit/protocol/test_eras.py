"""Which core hears what, and what those get who lag (protocol 6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from unittest.mock import Mock

import pytest

from epaxos.protocol.command import Command
from epaxos.protocol.contract import Core, Ended, Lead, PeerStatus, Retire
from epaxos.protocol.eras import Eras
from epaxos.protocol.ids import Row
from epaxos.protocol.membership import Configuration
from epaxos.protocol.transfer import EpochOver
from harness.commands import collect, over, put

ME = 0
PEERS = (1, 2)
CUT = (3, 4, 5)
FIRST = Configuration(0, "epaxos", ("alpha", "bravo", "charlie"), 1, 1)


class Told:
    """A core of which nothing is asked but what it says of itself."""

    adopts_prefix = True

    def __init__(self, epoch: int, leader: Row | None, left: Sequence[Command]) -> None:
        self.epoch = epoch
        self.status = lambda: Mock(leader=leader)
        self.left = lambda: left

    def beacon(self, _: float) -> str:
        return f"beacon of {self.epoch}"


class Era(NamedTuple):
    epoch: int
    configuration: Configuration
    core: Core[Any]


def era(epoch: int, leader: Row | None = None, left: Sequence[Command] = ()) -> Era:
    core = cast("Core[Any]", Told(epoch, leader, left))
    return Era(epoch, FIRST._replace(epoch=epoch), core)


def test_a_message_is_for_the_core_of_its_epoch_and_for_none_where_that_is_gone() -> None:
    eras = Eras(era(0), ME, PEERS, PEERS)
    first = eras.running
    eras.next(era(1), over(CUT), retiring=False)
    assert [eras.of(epoch) for epoch in range(3)] == [first, eras.running, None]
    assert eras.forget_below(1) == [first]
    assert eras.of(0) is None


def test_a_peer_is_there_once_it_is_heard_in_the_running_epoch() -> None:
    eras = Eras(era(0), ME, PEERS, PEERS)
    eras.on_heard(1, 1)  # it is first to come to the next epoch
    assert eras.next(era(1), over(CUT), retiring=False) == [
        PeerStatus(1, online=True),
        PeerStatus(2, online=False),
    ]
    assert eras.on_heard(2, 0) == []
    assert eras.on_heard(2, 1) == [PeerStatus(2, online=True)]
    assert eras.on_heard(2, 1) == [], "it is told once"
    assert eras.on_link(2, online=False) == [PeerStatus(2, online=False)]
    assert eras.on_heard(2, 1) == [], "not without a link"
    assert eras.on_link(2, online=True) == []
    assert eras.on_heard(2, 1) == [PeerStatus(2, online=True)]


def test_who_lags_gets_the_beacon_of_its_epoch_or_hears_that_it_is_over() -> None:
    eras = Eras(era(0), ME, PEERS, PEERS)
    eras.next(era(1), over(CUT), retiring=False)
    assert eras.behind
    eras.on_heard(1, 1)
    eras.on_heard(2, 0)
    [first], running = eras.ended.values(), eras.running
    usual = (running, "beacon of 1")
    assert eras.beacons(1, 0.0) == [usual]
    assert eras.beacons(2, 0.0) == [usual, (first, "beacon of 0")]
    eras.forget_below(1)
    assert eras.beacons(2, 0.0) == [usual, (running, EpochOver(0, CUT))]
    eras.on_heard(2, 2)
    assert eras.beacons(2, 0.0) == [usual], "it is ahead"


def test_of_cuts_only_those_are_kept_that_a_peer_may_be_told_of() -> None:
    eras = Eras(era(0), ME, PEERS, PEERS)
    for epoch in range(1, 9):
        eras.next(era(epoch), over((epoch, 0, 0)), retiring=False)
        eras.on_heard(1, epoch)
        eras.on_heard(2, min(epoch, 3))
    eras.forget_below(8)
    assert eras.beacons(2, 0.0)[1:] == [(eras.running, EpochOver(3, (4, 0, 0)))]
    assert len(eras._cuts) <= len(PEERS) + 1


def test_who_hears_that_its_epoch_is_over_expects_nothing_more_of_the_peer_in_it() -> None:
    eras = Eras(era(0), ME, PEERS, PEERS)
    assert eras.on_over(1, EpochOver(0, CUT)) == [PeerStatus(1, online=False), Ended(CUT)]
    assert eras.on_over(1, EpochOver(0, None)) == [Ended(None)]
    assert eras.on_over(1, EpochOver(7, None)) == [], "of another epoch"


def test_a_checkpoint_of_a_later_epoch_stands_for_all_before() -> None:
    eras = Eras(era(0), ME, PEERS, PEERS)
    eras.next(era(1), over(CUT), retiring=False)
    eras.on_heard(2, 5)
    assert eras.replace(era(5), retiring=False) == [PeerStatus(1, online=False), PeerStatus(2, online=True)]
    assert eras.of(0) is eras.of(1) is None
    assert [each.epoch for each in eras.all] == [5]


def test_a_barrier_says_what_follows_unless_that_cannot() -> None:
    eras = Eras(era(0), ME, PEERS)
    wanted = FIRST._replace(epoch=1, f=0, e=0, request=7)
    assert eras.following(over(CUT, follows=wanted)) == wanted
    late = wanted._replace(epoch=5)
    assert eras.following(over(CUT, follows=late)) == FIRST._replace(epoch=1, request=7)


@pytest.mark.parametrize(
    ("leader", "retiring", "hints"),
    [(ME, False, [Lead()]), (1, False, []), (None, False, []), (ME, True, [Retire()])],
)
def test_who_led_leads_on_unless_it_is_about_to_stop(
    leader: Row | None, *, retiring: bool, hints: list[Lead | Retire]
) -> None:
    eras = Eras(era(0, leader), ME, PEERS)
    assert eras.next(era(1), over(CUT), retiring=retiring)[2:] == hints


def test_what_is_left_over_goes_on_in_the_next_epoch_without_bases() -> None:
    eras = Eras(era(0), ME, PEERS)
    overtaken = [put(1, b"k"), collect(2, 0, 0, 0), put(3, b"k")]
    results = {overtaken[2]: "it has executed"}
    assert eras.settle(overtaken, lambda command, *, prefix: results.get(command) if prefix else None) == [
        "it has executed"
    ]
    assert list(eras.left) == overtaken[:2], "in this epoch the base is right"
    left = put(4, b"k")
    eras.next(era(1, left=(left,)), over(CUT, left), retiring=False)
    assert list(eras.left) == [left, overtaken[0]]
    eras.left.clear()
    assert eras.replace(era(5), retiring=True)[2:] == [Retire()]
    assert list(eras.left) == [left]
