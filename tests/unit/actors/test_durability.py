from __future__ import annotations

from dataclasses import replace

from epaxos.actors.assembly import make_parts
from epaxos.actors.durability import Durability, Shell
from epaxos.config import load_config


def test_what_has_just_been_looked_at_is_not_due_again_at_once() -> None:
    """Else the Replica would turn in a circle until it is, with a round each time."""
    whole = load_config(None, environ={})
    config = replace(whole, storage=replace(whole.storage, engine="memory"))
    parts = make_parts(config, 0)
    durability = Durability(config, parts, Shell(lambda *_: None, lambda *_: None, lambda *_: None))
    try:
        for step in range(3000):  # rounds that something else makes, a thousand a second
            durability.poll(step / 1000)
            assert durability.deadline > step / 1000
    finally:
        durability.close(abandon=True)
