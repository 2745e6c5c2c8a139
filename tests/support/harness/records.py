"""Random instances, each as an acceptor of a cluster of `N` may hold it."""

from __future__ import annotations

from hypothesis import strategies as st

from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from harness.commands import Access
from harness.invariants import Record, record_of
from harness.sendings import COMMANDS, NUMBERS, PHASES, PLACES, own_deps


@st.composite
def instances(draw: st.DrawFn, place: InstanceId | None = None) -> Instance:
    """An instance with at most one payload; which of its fields are set is drawn."""
    place = draw(PLACES) if place is None else place
    deps = draw(own_deps(place))
    instance = Instance(place, deps)
    instance.abal = draw(NUMBERS)
    instance.bal = max(instance.abal, draw(NUMBERS))
    instance.phase = draw(PHASES)
    instance.seq = draw(NUMBERS)
    instance.orig = draw(st.none() | COMMANDS)
    instance.value = draw(st.sampled_from([None, NOP, instance.orig]))
    if instance.orig is not None and draw(st.booleans()):
        instance.init = Proposal(instance.orig, draw(own_deps(place)), draw(NUMBERS))
    return instance


@st.composite
def logs(draw: st.DrawFn) -> list[Instance]:
    """Instances of different places."""
    return [draw(instances(place)) for place in draw(st.lists(PLACES, max_size=8, unique=True))]


def decided(place: InstanceId, command: Access | None, *deps: int, seq: int = 0) -> Instance:
    """A decided instance, of a no-op if there is no command."""
    instance = Instance(place, deps)
    instance.phase = Phase.COMMITTED
    instance.orig = command
    instance.value = NOP if command is None else command
    instance.seq = seq
    return instance


def contents(records: list[Instance]) -> dict[InstanceId, Record]:
    """All fields of instances, by place."""
    assert len({record.id for record in records}) == len(records)
    return {record.id: record_of(record) for record in records}
