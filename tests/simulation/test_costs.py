"""What some rules are for is time and messages: without them everything ends well, and late.

Each test runs a few dozen seeds of a draw in which its rule matters, and bounds what they come to together. The
numbers are about three times what the program needs, and half of what it needs without the rule (`tools/mutants`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from epaxos.protocol.membership import Configuration
from epaxos.protocol.quorums import make_quorums
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.plan.drawing import draw_options
from epaxos.simulation.plan.fates import Mute
from epaxos.simulation.plan.faults import Crash, Refresh, draw_faults
from epaxos.simulation.plan.options import MANY, Overrides, stream
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.plan.workload import draw_workload
from epaxos.simulation.run import Outcome, Run
from epaxos.simulation.world import changes
from epaxos.simulation.world.observer import Observer

QUICK = {"patience": 4.0, "fast_path": 1.0}
"""Times in mean delays of a message, as in all draws below."""


def run(seeds: Iterable[int], overrides: Overrides, times: dict[str, float], **options: Any) -> list[Outcome]:
    """Some seeds, with some options decided instead of drawn."""
    outcomes = []
    for seed in seeds:
        drawn = draw_options(seed, overrides)
        drawn = replace(drawn, **options)
        scaled: dict[str, Any] = {name: drawn.delay * value for name, value in times.items()}
        drawn = replace(drawn, **scaled)
        outcome = Run(Plan(drawn, draw_workload(drawn), draw_faults(drawn))).execute()
        assert outcome.verdict is Verdict.CLEAN, f"seed {seed}: {outcome.text}"
        outcomes.append(outcome)
    return outcomes


def marks(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How often each thing happened in all of them together."""
    return sum((outcome.marks for outcome in outcomes), Counter())


def mute(kind: str, senders: Iterable[int], receivers: Iterable[int]) -> list[Mute]:
    """Messages of a kind from some replicas to some others."""
    return [Mute(kind, a, b) for a in senders for b in receivers if a != b]


def test_one_owner_outside_the_quorum_is_enough_to_annul() -> None:
    """Against the instance of 0 stand one of 3, who answers replica 1, and one of 4, who does not (rule 8)."""
    everybody = range(5)
    mutes = [
        *mute("PreAccept", (0,), (2, 3, 4)),
        *mute("PreAccept", (3,), (0, 1, 4)),
        *mute("PreAccept", (4,), (0, 1, 3)),
        *mute("PreAcceptOK", everybody, (0, 3, 4)),
        *mute("RecoverOK", everybody, (0, 2, 3, 4)),
        *mute("RecoverOK", (0, 4), (1,)),
    ]
    outcomes = run(
        range(5),
        Overrides(5, frozenset({"reorder"}), 8),
        QUICK | {"phase": 120.0, "think": 0.2},
        mutes=tuple(mutes),
        f=2,
        e=2,
        keys=1,
        hot=1.0,
        mix="writes",
        thrifty=False,
        acquainted=True,
        clients=8,
        window=1,
    )
    assert marks(outcomes)["recovery case 8: an owner outside the quorum"] > 4
    assert marks(outcomes)["recovery case 9: wait"] < 4


def test_late_owner_ends_a_recovery() -> None:
    """Replica 1 recovers what it and the owner, 0, know, and 4 what it and 2 know; these answer last (case 13)."""
    everybody = range(5)
    mutes = [
        *mute("PreAccept", (0,), (2, 3, 4)),
        *mute("PreAccept", (2,), (0, 1, 3)),
        *mute("PreAcceptOK", everybody, (0, 2)),
        *mute("RecoverOK", (0, 4), (1,)),
        *mute("RecoverOK", (1, 2), (4,)),
        *mute("Recover", (0, 2, 3), everybody),
    ]
    both = {0, 2}
    homes = {seed: {stream(seed, f"client {name}").randrange(5) for name in (0, 1)} for seed in range(800)}
    outcomes = run(
        [seed for seed, asked in homes.items() if asked == both],
        Overrides(5, frozenset(), 2),
        QUICK | {"phase": 20.0, "think": 0.2, "client_timeout": 1000.0},
        mutes=tuple(mutes),
        f=2,
        e=2,
        keys=1,
        hot=1.0,
        mix="writes",
        thrifty=False,
        acquainted=True,
        clients=2,
        window=1,
        cpu=0.0,
    )
    assert marks(outcomes)["recovery case 5: validate"] > 20
    assert marks(outcomes)["recovery case 9: wait"] < 7


def test_who_missed_decisions_asks_for_them() -> None:
    """No Commit arrives as long as the faults last. Without asking, each decision has to be recovered."""
    outcomes = run(
        range(40),
        Overrides(3, frozenset(), 8),
        {"patience": 8.0, "phase": 100.0, "fast_path": 1.0, "think": 0.5},
        mutes=tuple(mute("Commit", range(3), range(3))),
        acquainted=True,
        observers=0,
    )
    late = [(outcome.seconds - outcome.options.phase) / outcome.options.patience for outcome in outcomes]
    assert sum(late) / len(late) < 4


def test_who_was_away_under_load_fetches_one_checkpoint() -> None:
    """While it is merged the others drop what has been decided since, but for the peer whose checkpoint it is."""
    changed: dict[str, Any] = {"spares": 0, "dead": 0, "clients": 6, "keys": 300, "hot": 0.0, "think": 0.01}
    changed |= {"checkpoint": 0.1, "checkpoint_size": 30, "retain": 0, "collect": 60.0, "chunk": 2000}
    changed |= {"slice": 4, "merging": 1, "cpu": 0.0005, "lasting": True, "lease": 10.0, "phase": 3.0}
    for seed in (0, 1):
        drawn = draw_options(seed, Overrides(3, frozenset({"crash"}), 400))
        options = replace(
            drawn, **SERVICE | changed | {"f": 1, "e": 1, "max_instances": 64, "aggregate": True}
        )
        outcome = Run(Plan(options, draw_workload(options), (Crash(1.0, 2, 0, 1.5),))).execute()
        assert outcome.verdict is Verdict.CLEAN, f"seed {seed}: {outcome.text}"
        assert outcome.marks["told of truncation"], seed
        assert outcome.marks["adopted a checkpoint"] == 1, seed


def test_links_that_are_full_carry_payloads_once() -> None:
    """Time-outs are far shorter than a payload's way through a full link: who sends it again makes that longer."""
    outcomes = run(
        range(12),
        Overrides(3, frozenset({"bandwidth"}), 60),
        QUICK
        | {"phase": 10.0, "think": 0.1, "client_timeout": 1000.0}
        | {"beacon": 20.0, "offline": 200.0},  # no payload's way is mistaken for silence
        acquainted=True,
        mix="writes",
        padding=3000,
        rate=200_000.0,
        delay=0.005,
        queue=300_000,
        lease=60.0,
        clients=9,
        window=4,
        frame=1,
        max_instances=64,
        keys=100,
        hot=0.0,
        disk="instant",
    )
    assert sum(outcome.seconds for outcome in outcomes) / len(outcomes) < 2


SERVICE: dict[str, Any] = {
    "patience": 1.0,
    "offline": 1.0,
    "client_timeout": 1.0,
    "beacon": 0.1,
    "fast_path": 0.05,
    "commit_delay": 0.002,
    "delay": 0.001,
    "disk": "pipelined",
    "disk_delay": 0.002,
    "cpu": 0.0,
    "checkpoint": 0.2,
    "leaders": "",
    "spares": 1,
    "observers": 0,
    "watchers": 0,
    "spread": "fixed",
    "fifo": True,
    "bias": (),
    "clients": 4,
    "window": 1,
    "frame": 1,
    "keys": 1,
    "hot": 1.0,
    "mix": "writes",
    "think": 0.2,
    "whole": 0.0,
    "reads": 0.0,
    "results": MANY,
    "kept": MANY,
    "acquainted": True,
    "dead": 1,
    "phase": 7.0,
}
"""Times in seconds as they are in the service, on one machine; and clients that wait for one another."""

OTHERS, JOINS = 30, "r5"
"""A number of which a replica that is asked for other members makes those of now, with r5 in the place of r3."""


class Waits(Observer):
    """How long clients have waited at most, in seconds, and the members of each epoch."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.members: dict[int, frozenset[str]] = {}

    def answered(self, call: Call, row: int) -> None:
        """See `Observer`."""
        del row
        assert call.answered is not None
        self.longest = max(self.longest, call.answered - call.invoked)

    def entered(self, row: int, configuration: Configuration) -> None:
        """See `Observer`."""
        del row
        self.members[configuration.epoch] = frozenset(configuration.names)


@pytest.mark.parametrize("protocol", ["epaxos", "multipaxos"])
def test_a_client_waits_less_than_two_time_outs_whoever_goes_and_comes(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica dies in mid-sentence and is replaced; then the first, who leads if any does, while an epoch ends.

    All epochs have the usual thresholds: with f = 0 one that is away keeps all others waiting.
    """
    monkeypatch.setattr(changes, "allowed", lambda n, f, e: (f, e) == (make_quorums(n).f, make_quorums(n).e))
    drawn = draw_options(1, Overrides(5, frozenset({"crash", "death", "member", "refresh"}), 120, protocol))
    options = replace(drawn, **SERVICE)
    faults = (
        Refresh(0.5, 2),
        Crash(1.5, 3, 9, None),
        Refresh(3.0, 2, OTHERS),
        Crash(4.5, 0, 5, 1.5),
        Refresh(4.55, 4),
    )
    waits = Waits()
    outcome = Run(Plan(options, draw_workload(options), faults), [waits]).execute()
    assert outcome.verdict is Verdict.CLEAN, outcome.text
    assert waits.members[2] == {"r0", "r1", "r2", "r4", JOINS}
    assert outcome.marks["dead replica replaced"]
    assert max(waits.members) == 3
    assert 1 < waits.longest < 2
