"""One suite for all logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from epaxos.errors import Refused
from epaxos.registers import EngineLog, Log, MemoryLog


@pytest.fixture(params=["memory", "engine"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
    else:
        kept = EngineLog(tmp_path / "log")
        yield kept
        kept.close()


def test_who_writes_an_id_first_wins(log: Log) -> None:
    assert [log.record(7, b"a"), log.record(7, b"b"), log.record(8, b"")] == [b"a", b"a", b""]
    assert list(log.range()) == [(7, b"a"), (8, b"")]


def test_ranges_end_where_there_is_nothing_more(log: Log) -> None:
    for id_ in (3, 1, 2**64 - 1, 9):
        log.record(id_, b"%d" % id_)
    ids = [1, 3, 9, 2**64 - 1]
    assert [id_ for id_, _ in log.range()] == ids
    assert [id_ for id_, _ in log.range(2, 9)] == [3]
    assert [id_ for id_, _ in log.range(9, 10**30)] == ids[2:]
    assert not list(log.range(10, 20))
    assert log.last() == (2**64 - 1, b"%d" % (2**64 - 1))


@pytest.mark.parametrize("ids", [(), (0,), (5, 6), (0, 2**40, 2**63)])
def test_the_last_one(log: Log, ids: tuple[int, ...]) -> None:
    for id_ in ids:
        log.record(id_, b"m")
    assert log.last() == ((ids[-1], b"m") if ids else None)


def test_prefixes_are_logs_of_their_own_and_the_same_again(log: Log) -> None:
    log.record(1, b"own")
    one, inner = log.with_prefix("one"), log.with_prefix("one").with_prefix("two")
    one.record(2, b"of one")
    inner.record(3, b"inner")
    log.with_prefix("on").with_prefix("etwo").record(4, b"other")
    assert [log.last(), one.last(), inner.last()] == [(1, b"own"), (2, b"of one"), (3, b"inner")]
    assert log.with_prefix("one").record(2, b"again") == b"of one"


@pytest.mark.parametrize("id_", [-1, 2**64, "1"])
def test_ids_that_are_refused(log: Log, id_: int) -> None:
    with pytest.raises(Refused, match="the id of a message is"):
        log.record(id_, b"m")


def test_an_engine_keeps_them(tmp_path: Path) -> None:
    first = EngineLog(tmp_path)
    first.with_prefix("p").record(1, b"m")
    first.close()
    again = EngineLog(tmp_path)
    assert again.with_prefix("p").last() == (1, b"m")
    again.close()
