"""Which core hears what, and what those get who lag (protocol 6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from unittest.mock import Mock

import pytest

from epaxos.protocol.command import Command
from epaxos.protocol.contract import Core, Ended, Lead, Measured, PeerStatus, Retire
from epaxos.protocol.eras import Eras
from epaxos.protocol.ids import Row
from epaxos.protocol.membership import NO_EPOCH, Configuration, nobody
from epaxos.protocol.roundtrips import RoundTrip
from epaxos.protocol.transfer import EpochOver
from harness.commands import collect, over, put

ALPHA, BRAVO, CHARLIE = NAMES = ("alpha", "bravo", "charlie")
PEERS = (BRAVO, CHARLIE)
CUT = (3, 4, 5)
FIRST = Configuration(0, "epaxos", NAMES, 1, 1)


class Told:
    """A core of which nothing is asked but what it says of itself."""

    adopts_prefix = True

    def __init__(self, epoch: int, leader: Row | None, left: Sequence[Command]) -> None:
        self.epoch = epoch
        self.status = lambda: Mock(leader=leader, executed=(-1, -1, -1))
        self.left = lambda: left
        self.trips = [RoundTrip() for _ in NAMES]

    def round_trip(self, peer: Row) -> RoundTrip:
        return self.trips[peer]

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
    eras = Eras(era(0), ALPHA, PEERS)
    first = eras.running
    eras.next(era(1), over(CUT), retiring=False)
    assert [eras.of(epoch) for epoch in range(3)] == [first, eras.running, None]
    assert eras.forget_below(1) == [first]
    assert eras.of(0) is None


def test_a_peer_is_there_once_it_is_heard_in_the_running_epoch() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.on_heard(BRAVO, 1)  # it is first to come to the next epoch
    assert eras.next(era(1), over(CUT), retiring=False) == [
        PeerStatus(1, online=True),
        PeerStatus(2, online=False),
    ]
    assert eras.on_heard(CHARLIE, 0) == []
    assert eras.on_heard(CHARLIE, 1) == [PeerStatus(2, online=True)]
    assert eras.on_heard(CHARLIE, 1) == [], "it is told once"
    assert eras.on_link(CHARLIE, online=False) == [PeerStatus(2, online=False)]
    assert eras.on_heard(CHARLIE, 1) == [], "not without a link"
    assert eras.on_link(CHARLIE, online=True) == []
    assert eras.on_heard(CHARLIE, 1) == [PeerStatus(2, online=True)]


def test_what_was_measured_with_a_peer_counts_in_the_next_epoch_whatever_its_row_there() -> None:
    before, after = era(0), era(1)
    before.core.round_trip(2).measured(0.5)
    told = Eras(before, ALPHA, PEERS).next(
        after._replace(configuration=after.configuration._replace(names=(CHARLIE, ALPHA, "delta"))),
        over(CUT),
        retiring=False,
    )
    measured = [event for event in told if isinstance(event, Measured)]
    assert [(event.peer, event.trip.longest) for event in measured] == [
        (0, before.core.round_trip(2).longest)
    ]
    before.core.round_trip(2).measured(5.0)
    assert measured[0].trip.mean == 0.5, "each epoch measures for itself"


def test_who_lags_gets_the_beacon_of_its_epoch_or_hears_that_it_is_over() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.next(era(1), over(CUT), retiring=False)
    assert eras.behind
    eras.on_heard(BRAVO, 1)
    eras.on_heard(CHARLIE, 0)
    [first], running = eras.ended.values(), eras.running
    usual = (running, "beacon of 1")
    assert eras.beacons(BRAVO, 0.0) == [usual]
    assert eras.beacons(CHARLIE, 0.0) == [usual, (first, "beacon of 0")]
    eras.forget_below(1)
    assert eras.beacons(CHARLIE, 0.0) == [usual, (running, EpochOver(0, CUT))]
    eras.on_heard(CHARLIE, 2)
    assert eras.beacons(CHARLIE, 0.0) == [usual], "it is ahead"


def test_of_cuts_only_those_are_kept_that_a_peer_may_be_told_of() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    for epoch in range(1, 9):
        eras.next(era(epoch), over((epoch, 0, 0)), retiring=False)
        eras.on_heard(BRAVO, epoch)
        eras.on_heard(CHARLIE, min(epoch, 3))
    eras.forget_below(8)
    assert eras.beacons(CHARLIE, 0.0)[1:] == [(eras.running, EpochOver(3, (4, 0, 0)))]
    assert len(eras._cuts) <= len(PEERS) + 1


def test_who_hears_that_its_epoch_is_over_expects_nothing_more_of_the_peer_in_it() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    assert eras.on_over(BRAVO, EpochOver(0, CUT), 1) == [PeerStatus(1, online=False), Ended(CUT)]
    assert eras.on_over(BRAVO, EpochOver(0, None), 1) == [Ended(None)]
    assert eras.on_over(BRAVO, EpochOver(7, None), 8) == [], "of another epoch"
    assert eras.on_over("delta", EpochOver(0, None), NO_EPOCH) == [], (
        "it is to join, and in none that could know"
    )
    eras.next(era(1), over(CUT), retiring=False)
    assert eras.on_over(BRAVO, EpochOver(1, None), 0) == [], "nor could who is in an earlier one"


def test_who_ended_an_epoch_without_a_leader_leads_the_next_if_somebody_does() -> None:
    for me, told in ((ALPHA, [Lead()]), (BRAVO, [])):
        eras = Eras(era(0), me)
        led = Era(1, FIRST.next(1, protocol="multipaxos"), era(1).core)
        assert [event for event in eras.next(led, over(CUT), retiring=False) if event == Lead()] == told


def test_a_checkpoint_of_a_later_epoch_stands_for_all_before() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.next(era(1), over(CUT), retiring=False)
    eras.on_heard(CHARLIE, 5)
    assert eras.replace(era(5), retiring=False) == [PeerStatus(1, online=False), PeerStatus(2, online=True)]
    assert eras.of(0) is eras.of(1) is None
    assert [each.epoch for each in eras.all] == [5]


def test_a_barrier_says_what_follows_unless_that_cannot() -> None:
    eras = Eras(era(0), ALPHA)
    wanted = FIRST._replace(epoch=1, f=0, e=0, request=7)
    assert eras.following(over(CUT, follows=wanted)) == wanted
    late = wanted._replace(epoch=5)
    assert eras.following(over(CUT, follows=late)) == FIRST._replace(epoch=1, request=7)


@pytest.mark.parametrize(
    ("leader", "retiring", "hints"),
    [(0, False, [Lead()]), (1, False, []), (None, False, []), (0, True, [Retire()])],
)
def test_who_led_leads_on_unless_it_is_about_to_stop(
    leader: Row | None, *, retiring: bool, hints: list[Lead | Retire]
) -> None:
    eras = Eras(era(0, leader), ALPHA)
    assert eras.next(era(1), over(CUT), retiring=retiring)[2:] == hints


def test_what_is_left_over_goes_on_in_the_next_epoch_without_bases() -> None:
    eras = Eras(era(0), ALPHA)
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


def without(name: str, *names: str) -> Era:
    """The second epoch, in which `name` has no vote any more, and these have one."""
    configuration = FIRST.next(7, names=names)
    assert name in configuration.removed
    return era(1)._replace(configuration=configuration)


def test_rows_are_those_of_the_epoch_and_names_are_for_ever() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.on_heard("delta", 0)
    eras.on_link("delta", online=True)
    eras.on_heard("delta", 1)
    first = eras.next(without(BRAVO, CHARLIE, "delta", ALPHA), over(CUT), retiring=False)
    assert first == [PeerStatus(0, online=False), PeerStatus(1, online=True)]
    assert eras.on_heard(CHARLIE, 1) == [PeerStatus(0, online=True)]
    assert eras.on_link(BRAVO, online=False) == eras.on_heard(BRAVO, 1) == [], "it has no row"


def test_who_led_does_not_lead_where_it_has_no_vote() -> None:
    eras = Eras(era(0, leader=0), ALPHA, PEERS)
    first = eras.next(without(ALPHA, BRAVO, CHARLIE), over(CUT), retiring=False)
    assert first == [PeerStatus(0, online=False), PeerStatus(1, online=False)]


def test_who_was_removed_leaves_once_so_many_have_come_that_can_go_on_alone() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    assert not eras.may_leave
    eras.next(without(ALPHA, BRAVO, CHARLIE, "delta"), over(CUT), retiring=False)
    eras.on_heard(BRAVO, 1)
    eras.on_heard("echo", 1)
    eras.on_heard("delta", 0)
    assert not eras.may_leave, "one of three"
    eras.on_heard("delta", 1)
    assert not eras.may_leave, "charlie is heard in an epoch before, and may know nobody else who can tell it"
    eras.on_link(CHARLIE, online=False)
    assert eras.may_leave


@pytest.mark.parametrize("observes", [False, True])
def test_who_was_removed_waits_for_who_observes_and_not_for_who_is_to_join(*, observes: bool) -> None:
    """Who is to join, or has made up its name, may stay in epoch 0 for ever."""
    eras = Eras(era(0), ALPHA, PEERS)
    eras.next(without(ALPHA, BRAVO, CHARLIE, "delta"), over(CUT), retiring=False)
    for peer in (*PEERS, "delta"):
        eras.on_heard(peer, 1)
    eras.on_link("guest", online=True)
    eras.on_heard("guest", 0)
    if observes:
        eras.follows("guest", 0)
    assert eras.may_leave != observes


def test_who_is_to_join_hears_that_an_epoch_is_over_once_there_is_something_to_fetch() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.next(without(CHARLIE, ALPHA, BRAVO, "delta"), over(CUT), retiring=False)
    eras.on_heard("delta", 0)
    assert "delta" in eras.audience
    assert eras.beacons("delta", 0.0) == [(eras.running, "beacon of 1")]
    eras.durable = 1
    assert eras.beacons("delta", 0.0)[1:] == [(eras.running, EpochOver(0, CUT))]
    eras.forget_below(1)
    assert eras.beacons("delta", 0.0)[1:] == [(eras.running, EpochOver(0, CUT))]


def test_one_that_is_to_join_is_told_at_once_that_where_it_is_is_over_in_the_first_epoch_too() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.on_heard("delta", NO_EPOCH)
    assert eras.beacons("delta", 0.0)[1:] == [(eras.running, EpochOver(0, None))]
    eras.on_heard("delta", 0)  # it has come to the epoch
    assert eras.beacons("delta", 0.0)[1:] == []


def test_one_that_is_to_join_hears_so_from_an_epoch_of_the_same_number_until_it_is_in_that() -> None:
    joining = Eras(era(0)._replace(configuration=nobody("epaxos")), "delta")
    assert joining.on_over(ALPHA, EpochOver(0, None), 0) == [Ended(None)]
    joining.replace(era(0), retiring=False)
    assert joining.on_over(ALPHA, EpochOver(0, None), 0) == [], "it was under way"
    assert joining.on_over(ALPHA, EpochOver(0, None), 1) == [Ended(None)]


def test_who_takes_part_in_no_epoch_that_is_kept_is_told_nothing_once_it_is_silent() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    eras.next(without(CHARLIE, ALPHA, BRAVO), over(CUT), retiring=False)
    eras.on_heard(CHARLIE, 0)
    eras.forget(CHARLIE)
    assert CHARLIE in eras.audience, "it may lag"
    eras.forget_below(1)
    assert CHARLIE in eras.audience
    eras.forget(CHARLIE)
    assert CHARLIE not in eras.audience
    assert eras.knows(CHARLIE), "if it comes again it is told"
    assert not eras.knows("delta")


def test_a_cut_of_another_width_is_of_another_epoch() -> None:
    eras = Eras(era(0), ALPHA, PEERS)
    assert eras.on_over("delta", EpochOver(0, (1, 2)), 1) == [Ended(None)]
