"""One suite for all stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from epaxos.errors import DirectoryLocked, WrongIdentity
from epaxos.registers import EngineStore, MemoryStore, Store


@pytest.fixture(params=["memory", "engine"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        kept = EngineStore(tmp_path / "data", 1)
        yield kept
        kept.close()


def test_what_is_missing_is_none_or_zero(store: Store) -> None:
    assert (store.get(b"k"), store.get_uint64(b"k")) == (None, 0)


def test_values_and_numbers(store: Store) -> None:
    for value in (b"", b"v", b"w" * 100_000):
        store.set(b"k", value)
        assert store.get(b"k") == value
    store.set_uint64(b"n", 2**64 - 1)
    assert store.get_uint64(b"n") == 2**64 - 1


def test_keys_come_ascending_by_pages(store: Store) -> None:
    for key in (b"c", b"a", b"b", b"a"):
        store.set(key, b"")
    assert [store.keys(b"", 2), store.keys(b"b", 2), store.keys(b"c", 2)] == [[b"a", b"b"], [b"c"], []]


def test_deletion(store: Store) -> None:
    for key in (b"a", b"b"):
        store.set(key, b"v")
    store.delete(b"a")
    store.delete(b"never")
    assert (store.get(b"a"), store.keys(b"", 9)) == (None, [b"b"])


def test_an_engine_keeps_everything(tmp_path: Path) -> None:
    first = EngineStore(tmp_path, 1)
    first.set(b"a", b"1")
    first.set(b"b", b"2")
    first.delete(b"a")
    first.close()
    kept = EngineStore(tmp_path, 1)
    assert (kept.keys(b"", 9), kept.get(b"b")) == ([b"b"], b"2")
    with pytest.raises(DirectoryLocked):
        EngineStore(tmp_path, 1)
    kept.close()
    with pytest.raises(WrongIdentity):
        EngineStore(tmp_path, 2)
