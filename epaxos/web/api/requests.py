"""What a request says, and how much of the replica's memory it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from epaxos.config.kinds import show
from epaxos.config.suggestion import advice
from epaxos.web.api.problems import BUSY, INVALID, LARGE, NO_JSON, SLOW, Problem

ChoiceT = TypeVar("ChoiceT")

BODY_TIME: Final = 30.0
"""Seconds in which a body must have come."""

JSON_BYTES: Final = 4 * 1024 * 1024
"""Bytes of JSON at most: reading it keeps the replica's thread from its work, for some 10 ms a MiB."""

_KEY_BYTES: Final = 255
_PARAMETERS: Final = 16
_DIGITS: Final = 20
_CODE: Final = "latin-1"
"""Has a character for each byte, so that bytes pass through what takes text."""


class Room:
    """Bytes of bodies and of results that may be in memory at once, of all requests."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def hold(self) -> Iterator[Held]:
        """What one request takes, until its answer has left."""
        held = Held(self)
        try:
            yield held
        finally:
            self._held -= held.size

    def take(self, size: int) -> bool:
        """Take bytes, if there are as many."""
        if self._held + size > self._limit:
            return False
        self._held += size
        return True


class Held:
    """What one request has taken: `size` bytes."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def grow(self, size: int) -> None:
        """Take more.

        Raises:
            Problem: there is no room.
        """
        if not self._room.take(size):
            raise Problem(
                BUSY, f"other requests take the memory for {size} bytes; this one was not looked at"
            )
        self.size += size


async def read_body(request: Request, held: Held, most: int) -> bytes:
    """The body of a request, of `most` bytes at most.

    Raises:
        Problem: it is larger, comes too slowly, or there is no room for it.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise Problem(LARGE, f"body of {declared} bytes; at most {most} are allowed")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIME):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Problem(LARGE, f"body of more than {most} bytes; at most these are allowed")
                held.grow(len(part))
                parts.append(part)
    except TimeoutError:
        raise Problem(SLOW, f"the body did not come within {BODY_TIME:g} s") from None
    except ClientDisconnect:
        raise Problem(SLOW, "the body did not come to its end") from None
    return b"".join(parts)


async def read_json_body(request: Request, held: Held) -> bytes:
    """The same of JSON, which must be called that: no page of another site can send such a request for its reader.

    Raises:
        Problem: as above, or it is not.
    """
    called = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if called != "application/json":
        found = show(called) if called else "none"
        raise Problem(NO_JSON, f"Content-Type: found {found}; allowed: application/json")
    return await read_body(request, held, JSON_BYTES)


def key_of(scope: Scope, prefix: str) -> bytes:
    """The key that a path names after `prefix`: any bytes, percent-encoded.

    Raises:
        Problem: it is empty.
    """
    raw: bytes = scope["raw_path"]
    key = unquote_to_bytes(raw[len(prefix) :])
    if not key:
        raise Problem(INVALID, "the key is empty; it needs at least 1 byte")
    return key


def once_of(headers: Headers) -> bytes | None:
    """The Idempotency-Key of a request, if it has one.

    Raises:
        Problem: it is empty or too long.
    """
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _KEY_BYTES:
        raise Problem(INVALID, f"Idempotency-Key of {len(key)} bytes; allowed: 1 to {_KEY_BYTES}")
    return key.encode(_CODE)


class Query:
    """The parameters of a request, which must be among `allowed`; a value is any bytes, percent-encoded.

    Raises:
        Problem: another one, or one that stands there twice.
    """

    def __init__(self, scope: Scope, allowed: tuple[str, ...]) -> None:
        text: str = scope["query_string"].decode(_CODE)
        try:
            pairs = parse_qsl(text, keep_blank_values=True, encoding=_CODE, max_num_fields=_PARAMETERS)
        except ValueError:
            raise Problem(INVALID, f"more than {_PARAMETERS} parameters") from None
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in allowed:
                advised = advice(name[:80], allowed) if allowed else "there are none here"
                raise Problem(INVALID, f"unknown parameter {show(name)}; {advised}")
            if name in self._values:
                raise Problem(INVALID, f"{name} stands there twice")
            self._values[name] = value

    def bytes(self, name: str) -> bytes | None:
        """A parameter as it is; None if it is missing."""
        value = self._values.get(name)
        return None if value is None else value.encode(_CODE)

    def choice(self, name: str, choices: Mapping[str, ChoiceT], *, default: ChoiceT) -> ChoiceT:
        """One of some words."""
        value = self._values.get(name)
        if value is None:
            return default
        if value not in choices:
            raise self._wrong(name, value, " or ".join(choices))
        return choices[value]

    def switch(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        return self.choice(name, {"false": False, "true": True}, default=default)

    def integer(self, name: str, lowest: int, highest: int, default: int) -> int:
        """A whole number."""
        value = self._values.get(name)
        if value is None:
            return default
        number = int(value) if value.isascii() and value.isdigit() and len(value) < _DIGITS else lowest - 1
        if not lowest <= number <= highest:
            raise self._wrong(name, value, f"an integer from {lowest} to {highest}")
        return number

    def seconds(self, name: str, most: float | None = None) -> float | None:
        """A number of seconds above 0; None if it is missing."""
        value = self._values.get(name)
        if value is None:
            return None
        limit = "" if most is None else f", at most {most:g}"
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not isfinite(seconds) or seconds <= 0 or (most is not None and seconds > most):
            raise self._wrong(name, value, f"a number of seconds above 0{limit}")
        return seconds

    @staticmethod
    def _wrong(name: str, value: str, allowed: str) -> Problem:
        return Problem(INVALID, f"{name}: found {show(value)}; allowed: {allowed}")
