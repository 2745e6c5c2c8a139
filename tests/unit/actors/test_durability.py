from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from epaxos.actors.assembly import make_era, make_parts
from epaxos.actors.durability import Durability, Shell
from epaxos.checkpoint.keeper import Todo
from epaxos.config import load_config
from epaxos.errors import NoDescriptor
from epaxos.protocol.contract import Checkpointed, Durable
from epaxos.protocol.transfer import FetchRows
from harness.commands import over

NONE = (-1, -1, -1)


def test_what_has_just_been_looked_at_is_not_due_again_at_once() -> None:
    """Else the Replica would turn in a circle until it is, with a round each time."""
    whole = load_config(None, environ={})
    config = replace(whole, storage=replace(whole.storage, engine="memory"))
    parts = make_parts(config, 0)
    durability = Durability(config, parts, Shell(*[lambda *_: None] * 5))
    try:
        for step in range(3000):  # rounds that something else makes, a thousand a second
            durability.poll(step / 1000)
            assert durability.deadline > step / 1000
    finally:
        durability.close(abandon=True)


def test_what_follows_the_end_of_an_epoch_is_not_told_the_next_one() -> None:
    """After an adopted checkpoint much executes, perhaps a barrier; its cut means nothing in the next epoch."""
    whole = load_config(None, environ={})
    config = replace(whole, storage=replace(whole.storage, engine="memory"))
    parts = make_parts(config, 0)
    first, following = parts.eras.running, parts.configuration.next(1)
    performed: list[object] = []

    def perform(effects: object, _: float) -> None:
        performed.append(effects)
        if parts.eras.running is first:
            era = make_era(config, parts.me, following, Durable((), NONE, NONE, ()))
            parts.eras.next(era, over(NONE), retiring=False)

    durability = Durability(config, parts, Shell(perform, *[lambda *_: None] * 4))
    try:
        durability._do(Todo([Checkpointed(NONE), Checkpointed((9, 9, 9))]), 0.0)
        assert len(performed) == 1
    finally:
        durability.close(abandon=True)


def test_the_directory_says_of_which_level_a_checkpoint_is_before_that_is_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = load_config(None, environ={})
    config = replace(whole, storage=replace(whole.storage, engine="memory"))
    parts = make_parts(config, 0)
    done: list[object] = []
    monkeypatch.setattr(parts.disk.engine, "raise_level", done.append)
    monkeypatch.setattr(parts.disk.engine, "commit_state", lambda: done.append("commit"))
    durability = Durability(config, parts, Shell(*[lambda *_: None] * 5))
    durability._do(Todo(commit=True, level=11), 0.0)
    durability.close(abandon=True)
    assert done == [11, "commit"]


def test_without_a_descriptor_for_it_a_peer_gets_no_checkpoint_for_now_and_the_disk_is_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = load_config(None, environ={})
    config = replace(whole, storage=replace(whole.storage, engine="memory"))
    parts = make_parts(config, 0)
    monkeypatch.setattr(parts.disk.keeper, "receive", Mock(side_effect=NoDescriptor("too many files")))
    durability = Durability(config, parts, Shell(*[lambda *_: None] * 5))
    durability.receive("bravo", FetchRows(7, 0), 0.0)
    durability.close(abandon=True)
    assert caplog.messages == ["bravo gets no part of the checkpoint now: too many files"]


def test_room_is_looked_at_each_second_also_between_two_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_config(None, environ={})
    config = replace(whole, storage=replace(whole.storage, engine="memory", quota=1000, reserve=0))
    parts = make_parts(config, 0)
    used = iter((500, 1100, 950, 500))
    monkeypatch.setattr(parts.disk.engine, "usage", lambda: next(used))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=1000))
    told: list[str] = []
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    durability = Durability(config, parts, Shell(nothing, nothing, nothing, nothing, told.append))
    try:
        for look in range(4):
            durability.poll(2.0 * look + 1)
    finally:
        durability.close(abandon=True)
    assert told == ["its data takes 1100 bytes of a quota of 1000", ""]
