"""What a simulated replica does, and does not do any more, once it has crashed."""

from __future__ import annotations

from typing import Any

from epaxos.protocol.epaxos.core import EPaxos
from epaxos.simulation.plan.options import Overrides
from epaxos.simulation.plan.plan import draw_plan
from epaxos.simulation.world.cluster import Cluster
from epaxos.simulation.world.observer import Observer, Observers
from epaxos.watching.position import read_position
from epaxos.watching.watchers import Poll


class Notes(Observer):
    """What was noted."""

    def __init__(self) -> None:
        self.marks: list[str] = []

    def noted(self, mark: str) -> None:
        self.marks.append(mark)


def test_clients_turn_at_once_from_one_that_has_left() -> None:
    """Nobody listens there. Else who asks an observer first walks for minutes past members that were replaced."""
    notes = Notes()
    cluster = Cluster(draw_plan(3, Overrides(3, frozenset(), 3)), Observers([notes]), EPaxos)
    cluster.replicas[2].gone = True  # which all of them ask first
    cluster.start()
    while not all(client.finished for client in cluster.clients) and cluster.schedule.step(2.0):
        pass
    assert all(client.finished for client in cluster.clients)
    assert "client retried elsewhere" not in notes.marks


def test_what_waits_for_the_end_of_a_pause_goes_with_a_crash() -> None:
    cluster = Cluster(draw_plan(0, Overrides(3, frozenset())), Observers([]), EPaxos)
    replica = cluster.replicas[0]
    replica.start()
    committed: list[bool] = []
    replica.disk.stage([(b"row", b"value")])
    replica.pause()
    replica.disk.commit(lambda: committed.append(True))
    cluster.schedule.step(1.0)
    replica.crash()
    replica.go_on()
    assert not committed
    assert not replica.disk.state


def test_watchers_are_told_nothing_where_no_quorum_is_heard() -> None:
    cluster = Cluster(draw_plan(0, Overrides(3, frozenset())), Observers([]), EPaxos)
    replica = cluster.replicas[0]
    told: list[Any] = []
    replica.start(acquainted=False)
    replica.watch("alone", Poll(b""), told.append)
    assert told.pop() == {"away": "others may do better"}
    replica.start(acquainted=True)
    replica.watch("acquainted", Poll(b""), told.append)
    since = read_position(told.pop()["position"])
    replica.watch("acquainted", Poll(b"", since, wait=1000), told.append)
    assert not told, "nothing has changed"
    cluster.schedule.run(10)
    assert told == [{"away": "it hears no quorum"}], "nobody else has been started"
