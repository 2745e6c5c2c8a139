"""The cost of execution is linear in what is executed, and nothing recurses, in whatever order decisions come."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest

from epaxos.protocol.contract import Decided
from harness.graphs import Feed, chain, ring, tangle

pytestmark = pytest.mark.slow

SMALL, LARGE = 5000, 25_000
SHALLOW = 1000  # calls
WORSE = 3.0
"""How much more an instance of the large graph may cost than one of the small; quadratic would be 5."""

Shape = Callable[[int, int], list[Decided]]


def forward(decisions: list[Decided]) -> list[Decided]:
    return decisions


def backward(decisions: list[Decided]) -> list[Decided]:
    return decisions[::-1]


def shuffled(decisions: list[Decided]) -> list[Decided]:
    Random(1).shuffle(decisions)
    return decisions


def first_last(decisions: list[Decided]) -> list[Decided]:
    return [*decisions[1:], decisions[0]]


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """Keep the collector's own cost, which comes in bursts, out of the figures."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def _shallow() -> Iterator[None]:
    """No call for each instance of a graph fits; a type checker in this process may have asked for more."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(SHALLOW)
    yield
    sys.setrecursionlimit(limit)


def seconds_each(decisions: list[Decided], rows: int) -> float:
    """Seconds of processor time for each instance."""
    feed = Feed(rows)
    began = time.process_time()
    feed.give_all(decisions)
    spent = time.process_time() - began
    assert feed.executor.pending == 0
    assert sum(map(len, feed.executed)) == len(decisions)
    return spent / len(decisions)


@pytest.mark.parametrize(
    ("shape", "rows", "order"),
    [
        (chain, 1, forward),
        (chain, 1, backward),
        (chain, 1, shuffled),
        (chain, 3, forward),
        (chain, 3, backward),
        (chain, 3, shuffled),
        (tangle, 3, forward),
        (tangle, 3, backward),
        (tangle, 3, shuffled),
        (ring, 3, first_last),
    ],
)
def test_an_instance_costs_the_same_in_a_long_graph(
    shape: Shape, rows: int, order: Callable[[list[Decided]], list[Decided]]
) -> None:
    small = seconds_each(order(shape(SMALL, rows)), rows)
    large = seconds_each(order(shape(LARGE, rows)), rows)
    assert large < WORSE * small, f"{large * 1e6:.1f} µs an instance instead of {small * 1e6:.1f} µs"
