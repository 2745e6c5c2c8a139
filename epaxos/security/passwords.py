"""Passwords of those who cannot hold a key: hashed by Argon2id (argon2-cffi), and checked at a price that is bounded.

A check takes some 15 ms and 19 MiB, by design: so addresses that fail wait (`security.patience`), and what they send
meanwhile is refused without a check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from epaxos.security.access import Access
from epaxos.security.patience import Patience
from epaxos.security.rights import Rights

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""What OWASP asks for at least: a replica has other things to do."""

_NOBODY: Final = _HASHER.hash("nobody")
"""Checked where the name is unknown, so that the time of an answer does not tell who is on the list."""


def hash_password(password: str) -> str:
    """What `clients.toml` has in the place of a password."""
    return _HASHER.hash(password)


class Passwords:
    """Checks names and passwords of one door; `failed` is told the address of each that is wrong."""

    def __init__(self, access: Access, failed: Callable[[str], None]) -> None:
        self._access = access
        self._failed = failed
        self._patience = Patience()

    def check(self, name: str, password: str, address: str, now: float) -> Rights | float:
        """What who gives this name and password may do, or the seconds until the next try is looked at.

        Takes as long as a hash does: not for a loop that has other work. Who has been let in is to be looked up again
        with `still`.
        """
        left = self._patience.left(address, now)
        if left:
            return left
        client = self._access.client(name)
        known = client is not None and bool(client.password)
        try:
            _HASHER.verify(client.password if client is not None and known else _NOBODY, password)
        except (VerificationError, InvalidHashError):
            known = False
        if not known or client is None:
            self._failed(address)
            return self._patience.failed(address, now)
        self._patience.succeeded(address)
        return client.rights

    def still(self, name: str) -> Rights | None:
        """What a client that came in by its password may do now; None if it is on the list no more, or has none."""
        client = self._access.client(name)
        return client.rights if client is not None and client.password else None
