"""Logs: what an acceptor promised, what an observer saw, or anything else that has numbers, kept by them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from epaxos.errors import Refused
from epaxos.registers.store import EngineStore, MemoryStore, Store

_IDS: Final = range(2**64)


class Log(Protocol):
    """Messages by ascending ids, 64 bits each. Who writes an id first wins."""

    def record(self, id_: int, message: bytes) -> bytes:
        """Keep a message; what stands under its id: this one, or an earlier one. Durable when it returns.

        Raises:
            Refused: the id is none of 0 to 2**64 - 1.
        """
        ...

    def last(self) -> tuple[int, bytes] | None:
        """The highest id, with its message; None where there is nothing."""
        ...

    def range(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """What stands from an id on, ascending, and below another."""
        ...

    def with_prefix(self, text: str) -> Log:
        """Another log in the same place, the same one for the same text."""
        ...


class StoreLog:
    """A log in a store that no node uses, which logs with other prefixes share."""

    def __init__(self, store: Store, prefix: bytes = b"", lock: threading.Lock | None = None) -> None:
        self._store = store
        self._prefix = prefix
        self._lock = threading.Lock() if lock is None else lock

    def record(self, id_: int, message: bytes) -> bytes:
        """See `Log`."""
        if type(id_) is not int or id_ not in _IDS:
            raise Refused(f"the id of a message is {id_!r}; allowed: 0 to 2**64 - 1")
        key = self._prefix + b"." + id_.to_bytes(8)
        with self._lock:
            found = self._store.get(key)
            if found is None:
                self._store.set(key, message)
                found = message
            return found

    def last(self) -> tuple[int, bytes] | None:
        """See `Log`. It is looked for by halves, as a store tells what comes after a key alone."""
        last = self._after(-1)
        high = _IDS[-1]
        while last is not None and last[0] < high:
            middle = (last[0] + high) // 2
            found = self._after(middle)
            if found is None:
                high = middle
            else:
                last = found
        return last

    def range(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """See `Log`."""
        found = self._after(max(start, 0) - 1)
        while found is not None and (stop is None or found[0] < stop):
            yield found
            found = self._after(found[0])

    def with_prefix(self, text: str) -> StoreLog:
        """See `Log`."""
        name = text.encode()
        return StoreLog(self._store, self._prefix + b"/" + len(name).to_bytes(4) + name, self._lock)

    def _after(self, id_: int) -> tuple[int, bytes] | None:
        """The first message above an id."""
        if id_ >= _IDS[-1]:
            return None
        own = self._prefix + b"."
        with self._lock:
            after = own + (id_.to_bytes(8) if id_ >= 0 else b"")
            for key in self._store.keys(after, 1):
                message = self._store.get(key)
                if key.startswith(own) and message is not None:
                    return int.from_bytes(key[len(own) :]), message
        return None


class MemoryLog(StoreLog):
    """A log that ends with its process."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())


class EngineLog(StoreLog):
    """A log on disk, synced at each message. `id_` is the number of whose log it is.

    Raises:
        StorageError: the directory cannot be used; the text says why.
    """

    def __init__(self, directory: Path | str, id_: int = 0) -> None:
        self._engine = EngineStore(directory, id_)
        super().__init__(self._engine)

    def close(self) -> None:
        """Release the directory."""
        self._engine.close()
