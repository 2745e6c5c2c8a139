"""How long clients of healthy replicas had to wait.

A client waits from when it asks while nothing is unanswered, or from its last answer, to its next answer. An error
is no answer. Of a wait, only the time counts in which the client's home replica was healthy without a break: a
replica that is dead, stands still or is cut off owes nobody an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

LIMIT: Final = 3.0
"""How long a client of a healthy replica may have to wait, in multiples of `timeout`."""


class Gap(NamedTuple):
    """A wait of `seconds` that ended `after` seconds after `fault` began, at a client of replica `home`.

    `again` tells how often the client had sent meanwhile what it was answered then, by reason.
    """

    seconds: float
    after: float
    fault: str
    home: str
    again: str = ""


class Gaps:
    """The longest wait of any client after each kind of fault; times are seconds on one clock.

    `longest_return` is the longest time from when all replicas had been started again until a client that waited for
    that had its answer.
    """

    def __init__(self, now: float) -> None:
        self.longest: dict[str, Gap] = {}
        self._label = self._fault = "before all"
        self._struck = now
        self._homes: dict[int, str] = {}
        self._unanswered: dict[int, int] = {}
        self._since: dict[int, float] = {}
        self._faults: dict[str, int] = {}
        self._healed: dict[str, float] = {}
        self._revived: dict[int, float] = {}
        self.longest_return = 0.0

    def is_healthy(self, replica: str) -> bool:
        """Whether no fault has `replica` as its victim."""
        return not self._faults.get(replica)

    def healthy(self) -> list[float]:
        """Since when the replicas that clients prefer have been healthy, of those that are."""
        return [self._healed[home] for home in self._healed if self.is_healthy(home)]

    def enter(self, client: int, home: str) -> None:
        """A client begins, at the replica `home`."""
        self._homes[client] = home
        self._healed.setdefault(home, -inf)
        self._unanswered[client] = 0

    def asked(self, client: int, now: float) -> None:
        """It asks something."""
        self._unanswered[client] += 1
        self._since.setdefault(client, now)

    def answered(self, client: int, now: float, again: Mapping[str, int] | None = None) -> None:
        """It got an answer to what it had sent `again` so often, by reason."""
        self._note(client, now, again)
        self._note_return(client, now)
        self._unanswered[client] -= 1
        if self._unanswered[client]:
            self._since[client] = now
        else:
            del self._since[client]

    def failed(self, client: int) -> None:
        """It got an error: it goes on waiting, with its next command."""
        self._unanswered[client] -= 1

    def strike(self, label: str, fault: str, replicas: Sequence[str], now: float) -> None:
        """A fault of the kind `label` begins whose victims these are; waits that end from now on are put down to it."""
        for replica in replicas:
            for client in self._clients_of(replica):
                if client in self._since:
                    self._note(client, now)
            self._faults[replica] = self._faults.get(replica, 0) + 1
        if replicas:
            self._revived.clear()
        else:
            self._healed = dict.fromkeys(self._healed, now)
        self._label, self._fault, self._struck = label, fault, now

    def revive(self, now: float) -> None:
        """All replicas were down, and the last of them has been started again."""
        self._revived = dict.fromkeys(self._since, now)

    def heal(self, replicas: Sequence[str], now: float) -> None:
        """A fault ends whose victims these are; one without is everybody's."""
        self._healed.update(dict.fromkeys(replicas or self._healed, now))
        for replica in replicas:
            self._faults[replica] -= 1
            for client in self._clients_of(replica):
                if client in self._since:
                    self._since[client] = now

    def end(self, now: float) -> None:
        """The run is over: who waits has waited until now."""
        for client in list(self._since):
            self._note(client, now)
            self._note_return(client, now)
        self._since.clear()

    def _clients_of(self, replica: str) -> list[int]:
        return [client for client, home in self._homes.items() if home == replica]

    def _note_return(self, client: int, now: float) -> None:
        revived = self._revived.pop(client, None)
        if revived is not None:
            self.longest_return = max(self.longest_return, now - revived)

    def _note(self, client: int, now: float, again: Mapping[str, int] | None = None) -> None:
        home = self._homes[client]
        seconds = now - self._since[client]
        known = self.longest.get(self._label)
        if self.is_healthy(home) and (known is None or seconds > known.seconds):
            told = ", ".join(f"{count} {reason}" for reason, count in sorted((again or {}).items()))
            self.longest[self._label] = Gap(seconds, now - self._struck, self._fault, home, told)
