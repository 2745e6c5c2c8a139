"""What stands in a checkpoint that was merged with a peer's."""

from __future__ import annotations

from random import Random

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import Change, Meta, entry_key, index_rows, meta_row
from epaxos.checkpoint.writer import CheckpointWriter, hold_event
from epaxos.protocol.contract import Receive
from epaxos.protocol.epaxos import EPaxos
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Phase
from epaxos.protocol.messages import PreAccept
from epaxos.protocol.quorums import make_quorums
from epaxos.protocol.state import Settings
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.machine import StateMachine
from epaxos.storage.records import encode_whole
from harness.commands import decode_access, put

NONE: Vector = (-1, -1, -1)
PLACE = InstanceId(1, 5)


def no_sleep(_: float) -> None:
    """Nothing here pauses."""


def test_a_payload_is_remembered_that_the_peer_annulled_without_knowing_it() -> None:
    # Above the peer's frontier: the entry stays in the log now, and will be dropped one day like all others.
    core = EPaxos(Settings(row=0, quorums=make_quorums(3)), Random(0))
    core.on_event(Receive(1, PreAccept(PLACE, put(1, b"x"), NONE, 0)), 0.0)
    annulled = Instance(PLACE, NONE)
    annulled.phase, annulled.value = Phase.COMMITTED, NOP
    fetched = Fetched(3, core.width, decode_access)
    fetched.take([(entry_key(PLACE), encode_whole(annulled)), (b"m", bytes(meta_row(Meta(NONE))[1] or b""))])
    staged: list[Change] = []
    writer = CheckpointWriter(core, StateMachine(Limits(64, 64, 1), no_sleep), staged.extend)
    writer.adopt(fetched)
    core.on_event(hold_event(fetched), 0.0)
    while not writer.step():
        pass
    assert index_rows([b"x"], core.recall([b"x"]))[0] in staged
    assert core.recall([b"x"])[4] == [5]
