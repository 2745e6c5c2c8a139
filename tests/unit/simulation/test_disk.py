"""What a crash leaves on a simulated disk: what was written up to some moment, and nothing of what came after."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from directories import record, write
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Phase
from epaxos.simulation.plan.options import Overrides, draw_options
from epaxos.simulation.world.disk import Disk
from epaxos.simulation.world.schedule import Schedule


class Crashed(Exception):
    """The replica stops here."""


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_before_a_write_takes_away_what_follows_it_too(seed: int) -> None:
    options = replace(draw_options(0, Overrides(3, frozenset())), disk="pipelined", disk_delay=0.01)
    schedule = Schedule()

    def crash() -> None:
        raise Crashed

    disk = Disk(
        options, schedule, Random(seed), crash, lambda _: None, lambda action: action()
    )  # crashes at the first write
    phases = (Phase.PREACCEPTED, Phase.ACCEPTED, Phase.COMMITTED)
    records = [record(InstanceId(0, 0), phase, payload=write(b"key", b"value")) for phase in phases]
    disk.write(records, lambda: None)
    with pytest.raises(Crashed):
        schedule.step(1.0)
    disk.crash()
    for found in disk.load().records:
        assert found.orig is not None
