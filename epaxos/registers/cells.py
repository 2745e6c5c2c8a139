"""The acceptor of a node, on a store that may fail or lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from random import SystemRandom
from typing import Final, TypeVar

from epaxos.checksum import crc32
from epaxos.errors import DataCorrupt, EpaxosError, FrameError, StorageError, WriteFailed
from epaxos.protocol.registers.acceptor import Acceptor
from epaxos.protocol.registers.feed import PAGE, PAGE_BYTES, Feed
from epaxos.protocol.registers.values import (
    ZERO,
    Accept,
    Answer,
    Ballot,
    Cell,
    Configuration,
    Follow,
    List,
    Listed,
    Peek,
    Prepare,
    Remove,
    Request,
    Scan,
    Scanned,
    Told,
)
from epaxos.registers.store import GroupStore, Store
from epaxos.transport.registers import decode, encode

_CELL: Final = b"cell/"
"""Before the keys of cells. No other key begins so."""

_FLOOR: Final = b"floor"
_HIGHEST: Final = b"highest"
_COUNTER: Final = b"counter"
_CONFIGURATION: Final = b"configuration"
_PROGRESS: Final = b"progress"
_INCARNATION: Final = b"incarnation"
_PEER: Final = b"peer/%d"
_ADDRESSES: Final = b"addresses"

MOST_KEYS: Final = 1000
"""Of one list."""

_Found = TypeVar("_Found")


def _sealed(key: bytes, body: bytes) -> bytes:
    return crc32(body, crc32(key)).to_bytes(4) + body


class Cells:
    """What a node keeps in its store: cells, the floor, counters, the configuration, and how far a procedure has come.

    Every value carries a checksum of itself and its key. Once the store has failed, or given back what was not
    written, the node promises nothing: every later call raises the same `StorageError`.

    What is to be written waits until some thread writes all that waits at once; nobody is answered before. Until then
    it counts as written for whoever asks next.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.grouped = isinstance(store, GroupStore)
        """Whether requests that come together cost one write."""
        self._access = nullcontext() if self.grouped else threading.Lock()
        self._failure: StorageError | None = None
        self._lock = threading.Lock()
        self._waiting: dict[bytes, bytes | None] = {}
        self._under_way: dict[bytes, bytes | None] = {}
        self._rounds = self._written = 0
        self._writing = threading.Lock()
        self._meeting = threading.Lock()
        floor = self._load(_FLOOR)
        self._floor = ZERO if floor is None else Ballot(*map(int, floor.split(b".")))
        highest = Ballot(self._guarded(lambda: store.get_uint64(_HIGHEST)), 0)
        self._reserved = highest.counter
        self.feed = Feed(SystemRandom().randrange(1, 2**62))
        self.acceptor = Acceptor(self._find, self._floor, highest)

    # -- the acceptor ------------------------------------------------------------------------------------------

    def take(self, request: Request) -> Answer:
        """Answer a request; what the answer promises is durable.

        Raises:
            FrameError: it is one that no proposer can have made.
            StorageError: the store has failed.
        """
        (answer,) = self.take_all((request,))
        if isinstance(answer, FrameError):
            raise answer
        return answer

    def take_all(self, requests: Iterable[Request]) -> list[Answer | FrameError]:
        """Answer requests, with what was wrong with one in its place; all that they promise is durable.

        Raises:
            StorageError: the store has failed.
        """
        with self._lock:
            answers = [self._taken(request) for request in requests]
            number = self._rounds
        self._write(number)
        return answers

    def _taken(self, request: object) -> Answer | FrameError:
        try:
            if isinstance(request, List):
                return self._list(request)
            if isinstance(request, Scan):
                return self._scan(request)
            if isinstance(request, Follow):
                return self.feed.tell(request, self.acceptor.floor)
            if isinstance(request, Prepare | Accept | Peek | Remove):
                return self._vote(request)
        except FrameError as error:
            return error
        return FrameError("malformed", f"{type(request).__name__} is no request")

    def _vote(self, request: Prepare | Accept | Peek | Remove) -> Answer:
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
            if isinstance(request, Accept):
                self.feed.add(Told(cell.key, cell.accepted, cell.state))
        if removed is not None:
            self._put(_CELL + removed, None)
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
        keys, _ = self._keys(request.key, min(request.most, MOST_KEYS))
        return Listed(request.key, request.ballot, tuple(keys))

    def _keys(self, after: bytes, most: int) -> tuple[list[bytes], bool]:
        """Up to so many keys of cells, ascending, and whether there are no more."""
        found = self._guarded(lambda: self._store.keys(_CELL + after, most))
        keys = [key[len(_CELL) :] for key in found if key.startswith(_CELL)]
        return keys, len(keys) < most

    def _scan(self, request: Scan) -> Scanned:
        """A page of what was accepted, with the place of the feed from which on it will tell what comes later."""
        keys, last = self._keys(request.key, PAGE)
        cells: list[Told] = []
        size = 0
        for key in keys:
            if size > PAGE_BYTES:
                last = False
                break
            cell = self._find(key)
            if cell is not None:
                cells.append(Told(key, cell.accepted, cell.state))
                size += len(cell.state.value or b"")
        return Scanned(request.key, request.ballot, tuple(cells), last)

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
        self._guarded(lambda: self._store.set_uint64(_COUNTER, counter))

    @property
    def configuration(self) -> Configuration | None:
        """Who takes part, as it was kept last."""
        body = self._load(_CONFIGURATION)
        return None if body is None else decode(body)

    def configure(self, configuration: Configuration) -> None:
        """Keep who takes part."""
        self._keep(_CONFIGURATION, encode(configuration))

    @property
    def progress(self) -> bytes | None:
        """What `note` kept."""
        return self._load(_PROGRESS)

    def note(self, progress: bytes) -> None:
        """Keep how far a procedure has come."""
        self._keep(_PROGRESS, progress)

    @property
    def addresses(self) -> bytes | None:
        """What `locate` kept."""
        return self._load(_ADDRESSES)

    def locate(self, addresses: bytes) -> None:
        """Keep where other nodes are."""
        self._keep(_ADDRESSES, addresses)

    # -- who is who --------------------------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """A number that this store was given when it was new, by which others notice that it is another's."""
        known = self._guarded(lambda: self._store.get_uint64(_INCARNATION))
        if not known:
            known = SystemRandom().randrange(1, 2**63)
            self._guarded(lambda: self._store.set_uint64(_INCARNATION, known))
        return known

    def meets(self, peer: int, incarnation: int) -> bool:
        """Whether a peer is who it was; the first time, it is kept who that is."""
        with self._meeting:
            key = _PEER % peer
            known = self._guarded(lambda: self._store.get_uint64(key))
            if not known:
                self._guarded(lambda: self._store.set_uint64(key, incarnation))
            return known in (0, incarnation)

    # -- the store ---------------------------------------------------------------------------------------------

    def _load(self, key: bytes) -> bytes | None:
        for recent in (self._waiting, self._under_way):
            if key in recent:
                found = recent[key]
                break
        else:
            found = self._guarded(lambda: self._store.get(key))
        if found is None:
            return None
        if type(found) is not bytes or _sealed(key, found[4:]) != found:
            raise self._fail(
                DataCorrupt(f"the store gives back under {key[:80]!r} what was never written there")
            )
        return found[4:]

    def _keep(self, key: bytes, body: bytes) -> None:
        with self._lock:
            self._save(key, body)
            number = self._rounds
        self._write(number)

    def _save(self, key: bytes, body: bytes) -> None:
        self._put(key, _sealed(key, body))

    def _put(self, key: bytes, value: bytes | None) -> None:
        if not self._waiting:
            self._rounds += 1
        self._waiting[key] = value

    def _write(self, number: int) -> None:
        """See that everything up to this round is durable: write it, and what waits by then, or wait until it is."""
        if self._written >= number and self._failure is None:
            return
        with self._writing:
            if self._failure is not None:
                raise self._failure
            if self._written >= number:
                return
            with self._lock:
                self._under_way, self._waiting = self._waiting, {}
                number = self._rounds
            self._guarded(lambda: self._store_all(self._under_way))
            with self._lock:
                self._under_way = {}
                self._written = number

    def _store_all(self, entries: Mapping[bytes, bytes | None]) -> None:
        if isinstance(self._store, GroupStore):
            self._store.write(entries)
            return
        for key, value in entries.items():
            if value is not None:
                self._store.set(key, value)
        for key, value in entries.items():
            if value is None:
                self._store.delete(key)

    def _guarded(self, action: Callable[[], _Found]) -> _Found:
        if self._failure is not None:
            raise self._failure
        try:
            with self._access:
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
