"""The acceptor of a node, on a store that may fail or lie."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar
from zlib import crc32

from epaxos.errors import DataCorrupt, EpaxosError, FrameError, StorageError, WriteFailed
from epaxos.protocol.registers.acceptor import Acceptor
from epaxos.protocol.registers.values import (
    ZERO,
    Accept,
    Answer,
    Ballot,
    Cell,
    Configuration,
    List,
    Listed,
    Peek,
    Prepare,
    Remove,
    Request,
)
from epaxos.registers.store import Store
from epaxos.transport.registers import decode, encode

_CELL: Final = b"cell/"
"""Before the keys of cells. No other key begins so."""

_FLOOR: Final = b"floor"
_HIGHEST: Final = b"highest"
_COUNTER: Final = b"counter"
_CONFIGURATION: Final = b"configuration"
_PROGRESS: Final = b"progress"

MOST_KEYS: Final = 1000
"""Of one list."""

_Found = TypeVar("_Found")


def _sealed(key: bytes, body: bytes) -> bytes:
    return crc32(body, crc32(key)).to_bytes(4) + body


class Cells:
    """What a node keeps in its store: cells, the floor, counters, the configuration, and how far a procedure has come.

    Every value carries a checksum of itself and its key. Once the store has failed, or given back what was not
    written, the node promises nothing: every later call raises the same `StorageError`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failure: StorageError | None = None
        self._lock = threading.Lock()
        floor = self._load(_FLOOR)
        self._floor = ZERO if floor is None else Ballot(*map(int, floor.split(b".")))
        highest = Ballot(self._guarded(lambda: store.get_uint64(_HIGHEST)), 0)
        self._reserved = highest.counter
        self.acceptor = Acceptor(self._find, self._floor, highest)

    # -- the acceptor ------------------------------------------------------------------------------------------

    def take(self, request: Request) -> Answer:
        """Answer a request; what the answer promises is durable.

        Raises:
            FrameError: it is one that no proposer can have made.
            StorageError: the store has failed.
        """
        with self._lock:
            if isinstance(request, List):
                return self._list(request)
            if not isinstance(request, Prepare | Accept | Peek | Remove):
                raise FrameError("malformed", f"{type(request).__name__} is no request")
            floor = self.acceptor.floor
            try:
                answer, cell, removed = self.acceptor.take(request)
            except StorageError as error:
                raise self._fail(error) from error
            if isinstance(request, Accept):
                self._remember(request.ballot)
            if self.acceptor.floor != floor:
                self._save(_FLOOR, str(self.acceptor.floor).encode())
            if cell is not None:
                self._save(_CELL + cell.key, encode(cell))
            if removed is not None:
                self._guarded(lambda: self._store.delete(_CELL + removed))
            return answer

    def _remember(self, ballot: Ballot) -> None:
        """After a restart, ballots up to about here are none from the future; that need not be exact."""
        if ballot.counter >= 2 * self._reserved + 2**30:
            self._reserved = ballot.counter
            self._guarded(lambda: self._store.set_uint64(_HIGHEST, ballot.counter))

    def _find(self, key: bytes) -> Cell | None:
        body = self._load(_CELL + key)
        if body is None:
            return None
        try:
            cell: Cell = decode(body)
        except FrameError as error:
            raise DataCorrupt(
                f"the store gives back a cell of {key!r} that was never written: {error}"
            ) from error
        return cell

    def _list(self, request: List) -> Listed:
        most = min(request.most, MOST_KEYS)
        found = self._guarded(lambda: self._store.keys(_CELL + request.key, most))
        keys = tuple(key[len(_CELL) :] for key in found if key.startswith(_CELL))
        return Listed(request.key, request.ballot, keys)

    # -- the proposer's ----------------------------------------------------------------------------------------

    @property
    def counter(self) -> int:
        """What was reserved last."""
        return self._guarded(lambda: self._store.get_uint64(_COUNTER))

    def reserve(self, counter: int) -> None:
        """Let the next start begin above this counter.

        Raises:
            StorageError: the store has failed.
        """
        with self._lock:
            self._guarded(lambda: self._store.set_uint64(_COUNTER, counter))

    @property
    def configuration(self) -> Configuration | None:
        """Who takes part, as it was kept last."""
        body = self._load(_CONFIGURATION)
        return None if body is None else decode(body)

    def configure(self, configuration: Configuration) -> None:
        """Keep who takes part."""
        with self._lock:
            self._save(_CONFIGURATION, encode(configuration))

    @property
    def progress(self) -> bytes | None:
        """What `note` kept."""
        return self._load(_PROGRESS)

    def note(self, progress: bytes) -> None:
        """Keep how far a procedure has come."""
        with self._lock:
            self._save(_PROGRESS, progress)

    # -- the store ---------------------------------------------------------------------------------------------

    def _load(self, key: bytes) -> bytes | None:
        found = self._guarded(lambda: self._store.get(key))
        if found is None:
            return None
        if type(found) is not bytes or _sealed(key, found[4:]) != found:
            raise self._fail(
                DataCorrupt(f"the store gives back under {key[:80]!r} what was never written there")
            )
        return found[4:]

    def _save(self, key: bytes, body: bytes) -> None:
        self._guarded(lambda: self._store.set(key, _sealed(key, body)))

    def _guarded(self, action: Callable[[], _Found]) -> _Found:
        if self._failure is not None:
            raise self._failure
        try:
            return action()
        except Exception as error:
            raise self._fail(error) from error

    def _fail(self, error: Exception) -> StorageError:
        """Nobody knows what is in the store now: promise nothing any more."""
        if isinstance(error, StorageError):
            failure: StorageError = error
        else:
            name = "" if isinstance(error, EpaxosError) else f"{type(error).__name__}: "
            failure = WriteFailed(
                f"the store of this node has failed, it promises nothing any more: {name}{error}"
            )
        self._failure = self._failure or failure
        return self._failure
