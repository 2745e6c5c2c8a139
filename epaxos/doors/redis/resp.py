"""RESP, the protocol of Redis, on the server's side: requests in, replies out, in version 2 or 3.

Requests are parsed here because `hiredis` is made for clients: it takes as a request what is a reply, allocates what a
length claims, and knows none of the errors that a server tells (decision 0040). What this raises and its bounds are
those of Redis 7.0 (`networking.c`), but for a bound on a whole request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

Request: TypeAlias = "list[bytes]"
"""A command and its arguments, at least one."""

INLINE_MOST: Final = 64 * 1024
"""Bytes of a line, be it a request by itself or a length."""

_ARGUMENTS_MOST: Final = 1024 * 1024
_INT_MAX: Final = 2**31 - 1
_SMALL: Final = 512
"""Bytes of an argument, of which there are"""

_SMALL_COUNTS: Final = {b"*%d" % count: count for count in range(1, 17)}
"""so many, in a request that is short; so it has"""

_SMALL_REQUEST: Final = 16 * (_SMALL + 16)
"""bytes at most."""

_STAR: Final = b"*"[0]
_ESCAPES: Final = {b"n"[0]: 10, b"r"[0]: 13, b"t"[0]: 9, b"b"[0]: 8, b"a"[0]: 7}


class ProtocolError(Exception):
    """What comes on a connection is no RESP; it is told so and closed."""


class Parser:
    """Requests out of the bytes of one connection; `bulk` and `request` bound an argument and all of a request.

    Nothing is parsed before it is asked for, and what is incomplete is not looked at again before it can be complete.
    """

    def __init__(self, bulk: int, request: int) -> None:
        self._bulk_most = bulk
        self._request_most = request
        self._buffer = bytearray()
        self._marks = {length: b"$%d" % length for length in range(min(bulk + 1, _SMALL))}
        self._needed = 0
        self._request: Request = []
        self._missing = 0
        self._length = -1
        self._size = 0

    def feed(self, data: bytes) -> None:
        """These bytes have come."""
        self._buffer += data

    @property
    def held(self) -> int:
        """Bytes that are in memory for requests that have not been taken."""
        return len(self._buffer) + self._size

    @property
    def ready(self) -> bool:
        """Whether `take` may have something."""
        return len(self._buffer) > 0 and len(self._buffer) >= self._needed

    def take(self, most: int, size: int) -> tuple[list[Request], ProtocolError | None]:
        """Some complete requests, at most so many and about so many bytes; and what is wrong with what follows."""
        if not self.ready:
            return [], None
        data = bytes(self._buffer)
        requests: list[Request] = []
        position = taken = 0
        if not self._missing and self._request_most > _SMALL_REQUEST:
            position, taken = self._take_small(data, most, size, requests)
        wrong = None
        try:
            while len(requests) < most and taken < size:
                request, position = self._next(data, position)
                if request is None:
                    break
                if request:
                    requests.append(request)
                    taken += self._size
                self._size = 0
        except ProtocolError as error:
            wrong = error
        del self._buffer[: max(position, 0)]
        return requests, wrong

    def _take_small(self, data: bytes, most: int, size: int, requests: list[Request]) -> tuple[int, int]:
        """Take those at the beginning that are short and complete, by lines: in a third of the time, as most are.

        Returns where they end, and how many bytes they count.
        """
        lines = data.split(b"\r\n")
        index = position = taken = 0
        marks = self._marks
        while index < len(lines) - 1 and len(requests) < most and taken < size:
            count = _SMALL_COUNTS.get(lines[index], 0)
            end = index + 1 + 2 * count
            words = lines[index + 2 : end : 2]
            lengths = lines[index + 1 : end : 2]
            if not count or end >= len(lines) or [marks.get(len(word)) for word in words] != lengths:
                break
            requests.append(words)
            inside = sum(map(len, words))
            position += len(lines[index]) + 2 + inside + sum(map(len, lengths)) + 4 * count
            taken += inside + 16 * count
            index = end
        return position, taken

    def _next(self, data: bytes, position: int) -> tuple[Request | None, int]:
        """The next request, which may be empty, and where it ends; None if it is not complete."""
        self._needed = 0
        if not self._missing:
            if position >= len(data):
                return None, position
            if data[position] != _STAR:
                return self._inline(data, position)
            length, position = self._line(data, position, "mbulk count")
            if length is None:
                return None, position
            count = _number(length)
            if count is None or count > _ARGUMENTS_MOST:
                raise ProtocolError("invalid multibulk length")
            if count <= 0:
                return [], position
            self._missing, self._request = count, []
        while self._missing:
            argument, position = self._argument(data, position)
            if argument is None:
                return None, position
            self._request.append(argument)
            self._missing -= 1
        return self._request, position

    def _argument(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The next argument of a request that has begun, and where it ends; None if it is not complete."""
        if self._length < 0:
            kind = data[position : position + 1]
            length, position = self._line(data, position, "bulk count")
            if length is None:
                return None, position
            if kind != b"$":
                raise ProtocolError(f"expected '$', got '{kind.decode('latin-1')}'")
            self._length = self._bulk_length(length)
        end = position + self._length
        if end + 2 > len(data):
            self._needed = end + 2 - position
            return None, position
        self._length = -1
        return data[position:end], end + 2

    def _bulk_length(self, text: bytes) -> int:
        length = _number(text)
        if length is None or not 0 <= length <= self._bulk_most:
            raise ProtocolError("invalid bulk length")
        self._size += length + 16
        if self._size > self._request_most:
            raise ProtocolError("too big request")
        return length

    def _line(self, data: bytes, position: int, what: str) -> tuple[bytes | None, int]:
        """What stands between the first byte and the end of the line, and where the next one begins."""
        end = data.find(b"\r", position)
        if end < 0:
            if len(data) - position > INLINE_MOST:
                raise ProtocolError(f"too big {what} string")
            return None, position
        if end + 2 > len(data):
            return None, position
        return data[position + 1 : end], end + 2

    def _inline(self, data: bytes, position: int) -> tuple[Request | None, int]:
        end = data.find(b"\n", position)
        if end < 0:
            if len(data) - position > INLINE_MOST:
                raise ProtocolError("too big inline request")
            return None, position
        line = data[position : end - 1] if data[end - 1 : end] == b"\r" else data[position:end]
        self._size = len(line)
        words = split_line(line)
        if words is None:
            raise ProtocolError("unbalanced quotes in request")
        return words, end + 1


def _number(text: bytes) -> int | None:
    """What `string2ll` of Redis makes of it: a decimal number without anything beside it."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 19 or (digits[:1] == b"0" and len(text) > 1):
        return None
    return int(text)


def split_line(line: bytes) -> Request | None:
    """The words of a request that a person typed, some in quotes; None if a quotation does not end as it must."""
    words: Request = []
    position = 0
    while True:
        while position < len(line) and line[position : position + 1].isspace():
            position += 1
        if position >= len(line) or line[position] == 0:
            return words
        word, position = _word(line, position)
        if word is None:
            return None
        words.append(word)


def _word(line: bytes, position: int) -> tuple[bytes | None, int]:
    word = bytearray()
    while position < len(line):
        byte = line[position]
        if byte in b"\"'":
            part, position = _quoted(line, position + 1, byte)
            if part is None:
                return None, position
            return bytes(word + part), position
        if byte in b" \n\r\t\0":
            break
        word.append(byte)
        position += 1
    return bytes(word), position


def _quoted(line: bytes, position: int, quote: int) -> tuple[bytes | None, int]:
    """What stands in quotes, from behind the first; a space or the end must follow."""
    part = bytearray()
    double = quote == b'"'[0]
    while position < len(line):
        byte = line[position]
        if byte == quote:
            follows = line[position + 1 : position + 2]
            return (bytes(part), position + 1) if not follows or follows.isspace() else (None, position)
        if byte == b"\\"[0] and double and position + 1 < len(line):
            digits = line[position + 2 : position + 4]
            if line[position + 1] == b"x"[0] and len(digits) == 2 and _is_hex(digits):
                part.append(int(digits, 16))
                position += 4
                continue
            part.append(_ESCAPES.get(line[position + 1], line[position + 1]))
            position += 2
            continue
        if byte == b"\\"[0] and line[position + 1 : position + 2] == b"'":
            part += b"'"
            position += 2
            continue
        part.append(byte)
        position += 1
    return None, position


def _is_hex(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)


# -- replies -------------------------------------------------------------------------------------------------


class RedisError(Exception):
    """An error as a client is told of it; the first word is its kind."""


class Map(NamedTuple):
    """Names and values: a map in version 3, an array of twice the length in version 2."""

    items: Sequence[tuple[Reply, Reply]]


class Push(NamedTuple):
    """What a client is told without having asked; an array in version 2."""

    items: Sequence[Reply]


class Text(NamedTuple):
    """A text for people: verbatim in version 3."""

    text: str


class Members(NamedTuple):
    """A set in version 3, an array in version 2."""

    items: Sequence[Reply]


class Several(NamedTuple):
    """More replies than one to a single request."""

    items: Sequence[Reply]


class NullArray(NamedTuple):
    """No array at all, where null stands for one."""


Reply: TypeAlias = (
    "bytes | int | str | list[Any] | RedisError | Map | Push | Text | Members | Several | NullArray | None"
)
"""Bytes are a bulk string, text is a simple one, None is null."""


def encode(reply: Reply, version: int) -> bytes:
    """A reply as it leaves."""
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is None:
        return b"_\r\n" if version == 3 else b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, str):
        return b"+%b\r\n" % reply.encode()
    if isinstance(reply, RedisError):
        return b"-%b\r\n" % _one_line(str(reply))
    return _encode_many(reply, version)


def _encode_many(reply: Any, version: int) -> bytes:
    if isinstance(reply, NullArray):
        return b"_\r\n" if version == 3 else b"*-1\r\n"
    if isinstance(reply, Text):
        text = reply.text.encode()
        if version == 3:
            return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)
        return b"$%d\r\n%b\r\n" % (len(text), text)
    if isinstance(reply, Map):
        flat = [part for item in reply.items for part in item]
        head = b"%%%d\r\n" % len(reply.items) if version == 3 else b"*%d\r\n" % len(flat)
        return head + b"".join([encode(part, version) for part in flat])
    if isinstance(reply, Several):
        return b"".join([encode(item, version) for item in reply.items])
    mark = b"*"
    if version == 3:
        mark = b">" if isinstance(reply, Push) else b"~" if isinstance(reply, Members) else mark
    items = reply if isinstance(reply, list) else reply.items
    return b"%b%d\r\n" % (mark, len(items)) + b"".join([encode(part, version) for part in items])


def _one_line(text: str) -> bytes:
    return text.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace")
