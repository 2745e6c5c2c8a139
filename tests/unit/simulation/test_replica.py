"""What a simulated replica does, and does not do any more, once it has crashed."""

from __future__ import annotations

from epaxos.protocol.epaxos.core import EPaxos
from epaxos.simulation.plan.options import Overrides
from epaxos.simulation.plan.plan import draw_plan
from epaxos.simulation.world.cluster import Cluster
from epaxos.simulation.world.observer import Observers


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
