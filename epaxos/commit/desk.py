"""What managers have in common, blocking or not: names, counts, and what they make of failures."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import uuid4

from epaxos.client.options import check_timeout
from epaxos.errors import Busy, Closed, NoAnswer, Refused, SessionExpired, StorageError, Untold
from epaxos.protocol.commit import Ended, Open, Swap, Transaction, Vote, checked

_log: Final = logging.getLogger("epaxos.commit")

_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two tries or two looks: they double."""

IN_DOUBT: Final = (Busy, NoAnswer, Untold, SessionExpired)
"""What registers raise that do not answer now."""

ENDS: Final = (*IN_DOUBT, Closed, StorageError)
"""After these a procedure goes no further here."""


class Undecided(NoAnswer):
    """No majority answered in time, or it could not be asked.

    The `transaction` may end either way, and whoever recovers it learns how.
    """

    def __init__(self, transaction: Transaction, cause: Exception) -> None:
        super().__init__(f"transaction {transaction.id} is not decided here: {cause}")
        self.transaction = transaction


class Desk:
    """Times and counts of a manager.

    Raises:
        ValueError, TypeError: a time is no number of seconds above 0.
    """

    def __init__(self, patience: float, timeout: float) -> None:
        self.counts: Counter[str] = Counter()
        self.patience = check_timeout(patience)
        self.timeout = check_timeout(timeout)
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        """Add to `counts`."""
        with self._lock:
            self.counts[what] += 1

    def ended(self, ended: Ended) -> Ended:
        """Count how a transaction ended."""
        self.count(ended.outcome.value)
        return ended

    def undecided(self, transaction: Transaction, error: Exception) -> Undecided:
        """The error that says so."""
        self.count("undecided")
        return Undecided(transaction, error)

    def voted(self, resource: str, transaction: Transaction, found: Any) -> Vote:
        """What a resource's answer counts as, or what it raised."""
        if type(found) is Vote:
            return found
        self.count("failed to prepare")
        if not isinstance(found, Exception):
            found = TypeError(f"prepare returned {found!r}, not a Vote")
        _log.error("resource %s, transaction %s: aborts", resource, transaction.id, exc_info=found)
        return Vote.ABORTED

    def deaf(self, resource: str, transaction: Transaction, error: Exception) -> None:
        """A resource has failed to hear the outcome."""
        self.count("failed to hear")
        _log.error(
            "resource %s, transaction %s: must be told again", resource, transaction.id, exc_info=error
        )


def named(names: Iterable[str], meta: bytes) -> Transaction:
    """A new transaction."""
    return checked(Transaction(uuid4().hex, tuple(names), meta))


def check_named(transaction: Transaction, here: Iterable[str]) -> None:
    """See that a transaction names these resources.

    Raises:
        Refused: it does not.
    """
    strangers = [name for name in here if name not in transaction.resources]
    if strangers:
        raise Refused(
            f"{', '.join(strangers)}: no resource of transaction {transaction.id}, "
            f"which names {', '.join(transaction.resources)}"
        )


def again_after(todo: Any) -> tuple[type[Exception], ...]:
    """The failures after which something that is wanted of registers may be tried again."""
    return (Busy,) if isinstance(todo, Open) else IN_DOUBT


def firsts_of(todo: Any) -> Iterator[bool]:
    """For one try after another, whether it is the first of what may take the first ballot."""
    yield isinstance(todo, Swap) and todo.first
    while True:
        yield False


class Pauses:
    """Pauses that get longer, for some seconds in all."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = _SHORTEST

    def next(self) -> tuple[float, bool]:
        """How long to wait now, and whether there is patience left after it."""
        left = self._end - time.monotonic()
        pause = max(0.0, min(self._pause, left))
        self._pause = min(2 * self._pause, _LONGEST)
        return pause, left > 0
