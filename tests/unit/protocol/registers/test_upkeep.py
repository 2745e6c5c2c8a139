"""Plans of a change of the acceptors, and what holds a confirmation back."""

from __future__ import annotations

from itertools import combinations

import pytest

from epaxos.protocol.registers.upkeep import Rescan, plan
from epaxos.protocol.registers.values import Configuration
from register_rig import Rig, add


def steady(*members: int) -> Configuration:
    return Configuration(7, members, members)


def quorums(members: tuple[int, ...]) -> list[set[int]]:
    return [set(some) for some in combinations(members, len(members) // 2 + 1)]


def meet(step: Configuration, other: Configuration) -> bool:
    return all(p & a for p in quorums(step.prepare) for a in quorums(other.accept))


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("leaves", [False, True])
def test_every_prepare_quorum_meets_what_was_chosen_in_its_step_and_the_one_before(
    n: int, *, leaves: bool
) -> None:
    if leaves and n == 1:
        return
    now = steady(*range(n))
    steps = plan(now, leaves=0) if leaves else plan(now, joins=n)
    before = now
    for step in steps:
        if isinstance(step, Rescan):
            continue
        assert step.version > before.version
        assert all(meet(a, b) for a in (before, step) for b in (before, step))
        before = step
    assert before.prepare == before.accept == (tuple(range(1, n)) if leaves else tuple(range(n + 1)))


@pytest.mark.parametrize(
    ("now", "change", "text"),
    [
        (steady(0, 1), {"joins": 1}, "acceptor 1 is one already; there are 0, 1"),
        (steady(0, 1), {"leaves": 2}, "acceptor 2 is none; there are 0, 1"),
        (steady(0), {"leaves": 0}, "acceptor 0 is the last one"),
        (Configuration(2, (0,), (0, 1)), {"joins": 2}, "a change of the acceptors is not complete"),
    ],
)
def test_changes_that_are_refused(now: Configuration, change: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plan(now, **change)


def test_a_configuration_is_confirmed_when_no_attempt_of_the_one_before_is_left() -> None:
    rig = Rig()
    proposer = rig.proposer(0)
    asks = rig.begin(proposer, add)
    joined = plan(rig.configuration, joins=3)[0]
    assert isinstance(joined, Configuration)
    proposer.configure(joined)
    before = proposer.settled
    rig.finish(proposer, asks)
    assert (before, proposer.settled) == (False, True)
    assert {receiver for receiver, _ in rig.begin(proposer, add).sends} == {
        0,
        1,
        2,
    }  # the first phase asks these
