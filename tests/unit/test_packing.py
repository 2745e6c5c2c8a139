from __future__ import annotations

from threading import Thread
from typing import Any

import msgpack
import pytest

from epaxos import packing
from epaxos.packing import pack

VALUES: list[Any] = [(1, b"key", ["text", None]), [-(2**63), 2**64 - 1], b"v" * 300_000, {"id": 1.5}, ()]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_packed_as_by_a_new_packer(value: object) -> None:
    assert [pack(value), pack(value)] == 2 * [msgpack.packb(value)]


@pytest.mark.parametrize(
    ("value", "error"), [((b"before", 2**64), OverflowError), ((b"before", object()), TypeError)]
)
def test_nothing_is_left_of_what_cannot_be_packed(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        pack(value)
    assert pack((1, 2)) == msgpack.packb((1, 2))


def test_a_packer_serves_one_thread_and_no_value_after_a_large_one() -> None:
    used = []

    def note() -> None:
        used.append(packing._packers.pack)

    for _ in range(2):
        pack(b"small")
        note()
    pack(b"v" * 300_000)
    note()
    other = Thread(target=note)
    other.start()
    other.join()
    packers = [bound.__self__ for bound in used]
    assert packers[0] is packers[1]
    assert len(set(map(id, packers))) == 3
