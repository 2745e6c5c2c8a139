"""Passwords of those who cannot hold a key: hashed by Argon2id (argon2-cffi), and checked at a price that is bounded.

A check takes some 15 ms and 19 MiB, by design: so addresses that fail wait (`security.patience`), and what they send
meanwhile is refused without a check.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
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
        self._salt = secrets.token_bytes(16)
        self._proved: dict[str, tuple[str, bytes]] = {}

    def check(self, name: str, password: str, address: str, now: float) -> Rights | float:
        """What who gives this name and password may do, or the seconds until the next try is looked at.

        The first time that a password is right, and each time that one is wrong, it takes as long as a hash does. Who
        has been let in is to be looked up again with `still`.
        """
        left = self._patience.left(address, now)
        if left:  # whether it is right or not: else who guesses could do so at any speed
            return left
        client = self._access.client(name)
        hashed = client.password if client is not None else ""
        proof = blake2b(password.encode(), salt=self._salt).digest()
        if client is not None and hashed and self._proved.get(name) == (hashed, proof):
            return client.rights
        try:
            _HASHER.verify(hashed or _NOBODY, password)
        except (VerificationError, InvalidHashError):
            hashed = ""
        if client is None or not hashed:
            self._failed(address)
            return self._patience.failed(address, now)
        self._patience.succeeded(address)
        self._proved[name] = hashed, proof
        return client.rights

    def hashed(self, name: str) -> str:
        """What stands for the password of a client now; "" if it has none."""
        client = self._access.client(name)
        return client.password if client is not None else ""

    def still(self, name: str, hashed: str) -> Rights | None:
        """What a client that came in by a password may do now; None if that is its password no more."""
        client = self._access.client(name)
        return client.rights if client is not None and hashed and client.password == hashed else None
