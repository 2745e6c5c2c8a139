"""A cluster whose disks are about to be full: what it takes, what it says, and that it comes back by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from epaxos import Client
from epaxos.errors import Busy, EpaxosError, NoAnswer
from epaxos.testing import LocalCluster

QUOTA = 3_000_000
VALUE = b"x" * 500_000
REFUSAL = "only reads and deletes are taken"


def put_until_full(client: Client[bytes]) -> tuple[int, EpaxosError]:
    """How many values were put, and what the next one came to; one whose answer is late on a busy machine counts."""
    for number in range(100):
        try:
            client.put(b"key %d" % number, VALUE)
        except EpaxosError as error:
            if REFUSAL in str(error):
                return number, error
            if not isinstance(error, NoAnswer):
                raise
        time.sleep(0.1)  # a checkpoint tells how much there is
    raise AssertionError("it never was")


def test_it_takes_reads_and_deletes_and_comes_back(tmp_path: Path) -> None:
    storage = {
        "engine": "sqlite",
        "sync": "never",
        "quota": QUOTA,
        "checkpoint": "100ms",
        "retain": 0,
    }
    with (
        LocalCluster(3, directory=tmp_path, storage=storage, slow="100ms") as alive,
        alive.client(timeout=4.0) as client,
    ):
        taken, error = put_until_full(client)
        assert isinstance(error, Busy | NoAnswer)
        assert f"of a quota of {QUOTA}" in str(error)
        assert client.get(b"key 0") == VALUE
        status = client.status(replica="alpha")
        assert status.storage_full
        assert status.storage_room is not None
        assert status.storage_room <= 0
        assert status.storage_failed is None
        assert "epaxos_storage_full 1.0" in alive.metrics("alpha")
        with pytest.raises((Busy, NoAnswer)):
            client.increment(b"other", timeout=0.5)
        for number in range(taken):
            client.delete(b"key %d" % number)
            assert client.get(b"key %d" % number) is None
        client.put(b"again", VALUE, timeout=20.0)
        assert client.get(b"again") == VALUE
        assert "there is room on the disk again" in "".join(map(alive.log, alive.names))
