"""An engine whose disk fails: at a write that a test chooses, and from then on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from epaxos.errors import WriteFailed
from epaxos.storage.engine import Engine, Entry, StateSnapshot


class FailingEngine:
    """Does what another engine does until `fail` is true at one of the operations in `fails`.

    log      the entries of every write to the log that succeeded
    refused  how many writes were refused
    hold     while it is locked, every write waits for it, as for a disk that hangs
    """

    name = "failing"

    def __init__(self, engine: Engine, fails: Sequence[str] = ("write_log",)) -> None:
        self._engine = engine
        self._fails = fails
        self._lock = threading.Lock()
        self.log: list[Sequence[Entry]] = []
        self.refused = 0
        self.left: int | None = None
        self.failed = False
        self.hold = threading.Lock()

    def fail_at(self, number: int) -> None:
        """Fail at the so many-th of the operations from now on."""
        self.left = number

    def _check(self, operation: str) -> None:
        with self.hold, self._lock:
            if operation in self._fails and self.left is not None and not self.failed:
                self.left -= 1
                self.failed = self.left <= 0
            if self.failed:
                self.refused += 1
                raise WriteFailed(f"cannot {operation}: no space left on this test's device")

    @property
    def incarnation(self) -> int:
        return self._engine.incarnation

    @property
    def joins(self) -> bool:
        return self._engine.joins

    @property
    def made(self) -> bool:
        return self._engine.made

    @property
    def size(self) -> int:
        return self._engine.size

    def raise_level(self, level: int) -> None:
        self._check("raise_level")
        self._engine.raise_level(level)

    def retire(self) -> None:
        self._check("retire")
        self._engine.retire()

    def usage(self) -> int | None:
        return self._engine.usage()

    def write_log(self, puts: Sequence[Entry]) -> None:
        self._check("write_log")
        self._engine.write_log(puts)
        self.log.append(puts)

    def drop_log(self, ranges: Sequence[tuple[bytes, bytes]], puts: Sequence[Entry]) -> None:
        self._check("drop_log")
        self._engine.drop_log(ranges, puts)

    def scan_log(self) -> Iterator[Entry]:
        return self._engine.scan_log()

    def stage_state(self, puts: Sequence[tuple[bytes, bytes | None]]) -> None:
        self._check("stage_state")
        self._engine.stage_state(puts)

    def commit_state(self) -> None:
        self._check("commit_state")
        self._engine.commit_state()

    def rollback_state(self) -> None:
        self._engine.rollback_state()

    def snapshot_state(self) -> StateSnapshot:
        return self._engine.snapshot_state()

    def close(self) -> None:
        self._engine.close()

    def abandon(self) -> None:
        self._engine.abandon()
