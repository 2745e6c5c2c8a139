"""The contract between a core and its driver: joining the effects of a round."""

from __future__ import annotations

import pytest

from epaxos.protocol.contract import CommitNote, Core, CoreStatus, Effects, Tick
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import AcceptOK, Message
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance
from harness.commands import put
from harness.graphs import decide
from harness.probe import Probe, is_quiet


def effects_of(slot: int) -> Effects[Message]:
    """Effects that hold one of everything."""
    place = InstanceId(0, slot)
    effects: Effects[Message] = Effects()
    effects.records = [Instance(place, (-1,))]
    effects.promises = [((1,), AcceptOK(place, 1))]
    effects.messages = [((2,), AcceptOK(place, 2))]
    effects.early = [((2,), AcceptOK(place, 4))]
    effects.deferrable = [((3,), AcceptOK(place, 3))]
    effects.executions = [(decide(0, slot, -1),)]
    effects.commits = [CommitNote(place, "fast", 0.5)]
    effects.fetch = [slot]
    effects.reads, effects.unread = [slot], [slot]
    return effects


def test_effects_are_joined_in_order() -> None:
    first, second = effects_of(0), effects_of(1)
    lists = [name for name in Effects.__slots__ if name not in ("as_of", "truncate", "over", "overtaken")]
    expected = {name: getattr(first, name) + getattr(second, name) for name in lists}
    first.extend(second)
    assert {name: getattr(first, name) for name in lists} == expected
    assert all(len(joined) == 2 for joined in expected.values())
    first.overtaken = [put(1, b"key")]
    first.extend(effects_of(2))
    assert first.overtaken == [put(1, b"key")]
    second.as_of = 5.0
    first.extend(second)
    first.extend(effects_of(3))
    assert first.as_of == 5.0


def test_the_latest_truncation_counts() -> None:
    first, second = effects_of(0), effects_of(1)
    second.truncate = (4,)
    first.extend(second)
    assert first.truncate == (4,)
    first.extend(effects_of(2))
    assert first.truncate == (4,)


def test_new_effects_ask_for_nothing_and_share_nothing() -> None:
    assert is_quiet(Effects())
    filled: Effects[Message] = Effects()
    filled.extend(effects_of(0))
    assert is_quiet(Effects())


def test_the_clock_of_a_core_never_goes_back() -> None:
    probe = Probe()
    probe.core.on_event(Tick(), 5.0)
    probe.core.on_event(Tick(), 3.0)
    assert probe.core.state.now == 5.0


def test_epaxos_is_a_core() -> None:
    core: Core[Message] = Probe().core
    assert isinstance(core, EPaxos)
    assert core.in_flight == 0
    nothing = (-1, -1, -1)
    assert core.status() == CoreStatus(nothing, nothing, nothing, nothing, 0, 0, 0)


@pytest.mark.parametrize("field", Effects.__slots__)
def test_what_asks_for_more_than_that_messages_leave_is_no_talk(field: str) -> None:
    effects: Effects[object] = Effects()
    assert effects.is_talk
    setattr(effects, field, 0.0 if field == "as_of" else (0,))
    assert effects.is_talk == (field == "messages")
