"""What a crash leaves on a simulated disk: what was written up to some moment, and nothing of what came after."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from directories import record, write
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Phase
from epaxos.simulation.plan.drawing import draw_options
from epaxos.simulation.plan.options import Overrides
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
        options, schedule, Random(seed), crash, lambda *_: None, lambda action: action()
    )  # crashes at the first write
    phases = (Phase.PREACCEPTED, Phase.ACCEPTED, Phase.COMMITTED)
    records = [record(InstanceId(0, 0), phase, payload=write(b"key", b"value")) for phase in phases]
    disk.write(records, lambda: None)
    with pytest.raises(Crashed):
        schedule.step(1.0)
    disk.crash()
    for found in disk.load(options.configuration).records:
        assert found.orig is not None


@pytest.mark.parametrize("seed", range(20))
def test_only_a_loss_of_power_takes_what_was_not_synced(seed: int) -> None:
    options = replace(draw_options(0, Overrides(3, frozenset())), disk="instant", sync=1.0)
    schedule = Schedule()
    disk = Disk(options, schedule, Random(seed), lambda: None, lambda *_: None, lambda action: action())
    records = [record(InstanceId(0, slot), Phase.COMMITTED) for slot in range(6)]
    disk.write(records[:3], lambda: None)
    while schedule.step(1.5):  # a sync
        pass
    disk.write(records[3:], lambda: None)
    disk.crash()
    disk.lose_power()
    left = {found.id.slot for found in disk.load(options.configuration).records}
    assert {0, 1, 2} <= left == set(range(len(left)))


def test_a_process_that_dies_takes_nothing_that_was_written() -> None:
    options = replace(draw_options(0, Overrides(3, frozenset())), disk="pipelined", disk_delay=9.0, sync=1.0)
    disk = Disk(options, Schedule(), Random(0), lambda: None, lambda *_: None, lambda action: action())
    done: list[bool] = []
    disk.write([record(InstanceId(0, 0), Phase.COMMITTED)], lambda: done.append(True))
    assert done, "promises need not wait"
    assert not disk.crash()
    assert [found.id.slot for found in disk.load(options.configuration).records] == [0]
    disk.lose_power()
    assert [found.id.slot for found in disk.load(options.configuration).records] == [0], (
        "what a start has read was synced"
    )
