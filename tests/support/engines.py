"""Engines for tests: where they are, whose they are, and what they hold."""

from __future__ import annotations

from pathlib import Path

from epaxos.storage.engine import Engine, Entry, Identity, StateSnapshot, open_engine

IDENTITY = Identity(0xABCDEF, "bravo")


def open_durable(
    directory: Path, sync: str = "always", *, create: bool = True, interval: float = 0.01
) -> Engine:
    return open_engine("sqlite", directory, IDENTITY, sync, interval, create=create)


def log_of(engine: Engine) -> dict[bytes, bytes]:
    entries = list(engine.scan_log())
    assert entries == sorted(entries)
    return dict(entries)


def state_of(engine: Engine, limit: int = 1000) -> dict[bytes, bytes]:
    snapshot = engine.snapshot_state()
    try:
        return entries_of(snapshot, limit)
    finally:
        snapshot.close()


def entries_of(snapshot: StateSnapshot, limit: int = 1000) -> dict[bytes, bytes]:
    found: list[Entry] = []
    while some := snapshot.scan(found[-1][0] if found else b"", limit):
        found += some
    assert [key for key, _ in found] == sorted({key for key, _ in found})
    return dict(found)
