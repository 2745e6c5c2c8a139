"""One transfer brings one checkpoint, whatever is late on its way."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import META, VALUE, Meta, block_key, meta_row, value_block
from epaxos.checkpoint.transfer import Fetch, Source
from epaxos.protocol.ids import Vector
from epaxos.simulation.world.disk import Snapshot
from harness.commands import decode_access
from harness.members import MEMBERS

LEASE = 1.0


def checkpoint(executed: Vector, value: bytes) -> Mapping[bytes, bytes]:
    blocks = (block_key(VALUE, 1, number) for number in range(2))
    return {
        META: meta_row(Meta(MEMBERS, executed))[1] or b"",
        **{block: value_block([key], [value]) for block, key in zip(blocks, (b"x", b"y"), strict=True)},
    }


def test_a_transfer_that_begins_anew_mixes_no_two_checkpoints() -> None:
    # The first request is sent again, but comes when the transfer is over and there is a newer checkpoint.
    for answers, chunk in ((1, 12), (2, 12), (1, 60)):  # of 60 bytes the first row, and a part of the second
        fetched = fetch_with_late_request(answers, chunk)
        assert fetched.executed == (9, 9, 9)
        assert dict(fetched.values()) == {b"x": b"new", b"y": b"new"}


def fetch_with_late_request(answers: int, chunk: int) -> Fetched:
    """What has come if so many answers had come before."""
    random = Random(answers)
    states = [checkpoint((1, 1, 1), b"old")]
    source = Source(LEASE, lambda: Snapshot(states[-1]), lambda: random.randrange(1, 2**62), chunk=chunk)
    fetch = Fetch("b", lambda: Fetched(MEMBERS, decode_access), lambda: random.randrange(1, 2**62))
    first = fetch.request()
    now = 0.0
    for _ in range(answers):
        answer = source.answer("a", fetch.request(), now)
        assert answer is not None
        fetch.take(answer)
    now += 2 * LEASE
    source.expire(now)
    states.append(checkpoint((9, 9, 9), b"new"))
    source.answer("a", first, now)
    for _ in range(100):
        answer = source.answer("a", fetch.request(), now)
        if answer is not None:
            fetch.take(answer)
    assert fetch.complete
    return fetch.fetched
