"""Bytes to a server that speaks RESP, and its replies as they came."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final, Self

_NESTING: Final = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}
_BULKS: Final = frozenset(b"$=")
_PATIENCE: Final = 20.0  # seconds


class Gone(Exception):
    """The server has closed the connection."""


class Talk:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=_PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send what may be anything."""
        self._socket.sendall(data)

    def ask(self, *words: bytes | str | int) -> bytes:
        """The reply to one command."""
        return self.ask_all([[as_bytes(word) for word in words]])[0]

    def ask_all(self, requests: Sequence[Sequence[bytes]]) -> list[bytes]:
        """The replies to some commands, sent at once."""
        self.send(b"".join(map(encoded, requests)))
        return [self.receive() for _ in requests]

    def receive(self) -> bytes:
        """The next reply.

        Raises:
            Gone: there is none, nor will there be.
        """
        while (end := _end_of(self._buffer, 0)) is None:
            try:
                more = self._socket.recv(1 << 20)
            except ConnectionError:
                more = b""
            if not more:
                raise Gone(repr(self._buffer))
            self._buffer += more
        reply, self._buffer = self._buffer[:end], self._buffer[end:]
        return reply


def as_bytes(word: bytes | str | int) -> bytes:
    """A word of a command."""
    return word if isinstance(word, bytes) else str(word).encode()


def encoded(words: Sequence[bytes]) -> bytes:
    """A command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def _end_of(data: bytes, start: int) -> int | None:
    """Where the reply ends that begins there; None if it is not complete."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = data[start], line + 2
    if kind in _BULKS:
        length = int(data[start + 1 : line])
        end += length + 2 if length >= 0 else 0
        return end if end <= len(data) else None
    position: int | None = end
    for _ in range(_NESTING.get(kind, 0) * max(0, int(data[start + 1 : line]) if kind in _NESTING else 0)):
        if position is None or position >= len(data):
            return None
        position = _end_of(data, position)
    return position
