"""What must hold of a finished cluster, judged from outside (protocol 1, 3.7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from epaxos.protocol.ids import InstanceId, Vector, covers
from epaxos.protocol.log import NOP, Phase
from harness.cluster import Cluster
from harness.commands import conflict
from harness.driver import Driver


def judge(cluster: Cluster) -> None:
    """Everything below."""
    executed_once(cluster)
    agreement(cluster)
    no_invention(cluster)
    visibility(cluster)
    same_order(cluster)
    real_time(cluster)
    nothing_left(cluster)


def decisions(driver: Driver) -> dict[InstanceId, tuple[object, Vector, int]]:
    """What a replica holds as decided."""
    return {
        instance.id: (instance.value, instance.deps, instance.seq)
        for row in driver.core.state.logs.rows
        for instance in row.values()
        if instance.phase is Phase.COMMITTED
    }


def executed_once(cluster: Cluster) -> None:
    """Every replica has executed exactly what was proposed, each command once."""
    for driver in cluster.drivers:
        assert sorted(driver.machine.executed) == sorted(cluster.proposed)


def agreement(cluster: Cluster) -> None:
    """All replicas hold the same value, dependencies and sequence number of every instance."""
    first = decisions(cluster.drivers[0])
    for driver in cluster.drivers:
        assert decisions(driver) == first


def no_invention(cluster: Cluster) -> None:
    """What was decided is no-op or was proposed, each command in one place."""
    commands = [value for value, _, _ in decisions(cluster.drivers[0]).values() if value is not NOP]
    assert Counter(commands) == Counter(cluster.proposed.values())


def _conflicting_pairs(cluster: Cluster) -> Iterator[tuple[int, int]]:
    for (one, command), (other, another) in combinations(cluster.proposed.items(), 2):
        if conflict(command, another):
            yield one, other


def visibility(cluster: Cluster) -> None:
    """Of two conflicting commands at least one depends on the other."""
    held = decisions(cluster.drivers[0])
    places = {value: place for place, (value, _, _) in held.items()}
    for one, other in _conflicting_pairs(cluster):
        here, there = places[cluster.proposed[one]], places[cluster.proposed[other]]
        assert covers(held[here][1], there) or covers(held[there][1], here), f"{here} and {there}"


def same_order(cluster: Cluster) -> None:
    """Conflicting commands execute in the same order everywhere."""
    first = cluster.drivers[0].machine
    for driver in cluster.drivers:
        assert driver.machine.writes == first.writes
        assert driver.machine.before == first.before


def real_time(cluster: Cluster) -> None:
    """A command submitted after a conflicting one was answered executes after it (protocol 1, F)."""
    positions = {name: position for position, name in enumerate(cluster.drivers[0].machine.executed)}
    for pair in _conflicting_pairs(cluster):
        for one, other in (pair, pair[::-1]):
            if cluster.answered[one] < cluster.submitted[other]:
                assert positions[one] < positions[other], f"{one} was answered before {other} was submitted"


def nothing_left(cluster: Cluster) -> None:
    """Nothing is pending, all is on disk, and components came out whole and in their order."""
    for driver in cluster.drivers:
        status = driver.core.status()
        assert status.pending == status.in_flight == 0
        assert status.committed == status.executed
        driver.watch.all_recorded()
        for component in driver.components:
            keys = [(decided.seq, *decided.id) for decided in component]
            assert keys == sorted(keys)
