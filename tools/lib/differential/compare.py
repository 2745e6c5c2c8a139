"""The same steps to two servers, or to one and a recording of another; what of their replies is different.

Replies are the same byte by byte, but for the times that are left: those count from when each server was asked.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from math import inf
from typing import Final, NamedTuple

from differential.drawing import CONNECTIONS, KEYS, WALKS, Step
from differential.talk import Talk

_NUMBERS: Final = re.compile(rb":(\d+)\r\n").sub
_TIMES: Final = re.compile(rb":(\d+)\r\n").findall
_LEAST: Final = 1000
"""Numbers from which on one may be a time that is left."""

_FAR: Final = 30_000
"""By how much two of these may differ of servers that are asked one after the other."""


class Difference(NamedTuple):
    """One command and the two replies to it, ours first."""

    connection: int
    command: list[bytes]
    ours: bytes
    theirs: bytes

    def __str__(self) -> str:
        words = " ".join(map(repr, self.command))
        return f"connection {self.connection}: {words}: ours {self.ours!r}, of Redis {self.theirs!r}"


def are_same(ours: bytes, theirs: bytes, far: float) -> bool:
    """Whether two replies are the same, but for times, which may differ by less than `far` seconds or milliseconds."""
    if ours == theirs:
        return True
    if _NUMBERS(b":n\r\n", ours) != _NUMBERS(b":n\r\n", theirs):
        return False
    pairs = zip(map(int, _TIMES(ours)), map(int, _TIMES(theirs)), strict=True)
    return all(one == other or (min(one, other) > _LEAST and abs(one - other) < far) for one, other in pairs)


class Side:
    """A server that takes steps."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._held = ExitStack()
        self._talks = [self._held.enter_context(Talk(address)) for _ in range(CONNECTIONS)]

    def take(self, step: Step) -> list[bytes]:
        """The replies to the commands of a step."""
        return self._talks[step.connection].ask_all(step.commands)

    def state(self) -> list[bytes]:
        """All values and when they end; what is begun on the connections ends."""
        replies = []
        for talk in self._talks:
            talk.ask("RESET")
        for key in KEYS:
            replies += self._talks[0].ask_all([[b"GET", key], [b"PTTL", key]])
        return replies

    def close(self) -> None:
        """Let go of its connections."""
        self._held.close()


def compare(steps: Iterable[Step], ours: Side, theirs: Side, most: int) -> Iterator[Difference | int]:
    """Take `most` commands or a few more, and compare the state then; differences, and at last how many were taken."""
    count = 0
    for step in steps:
        yield from _differences(step, ours.take(step), theirs.take(step))
        count += len(step.commands)
        if count >= most:
            break
    commands = [[name, key] for key in KEYS for name in (b"GET", b"PTTL")]
    yield from _differences(Step(0, commands), ours.state(), theirs.state())
    yield count


def _differences(
    step: Step, ours: Sequence[bytes], theirs: Sequence[bytes], far: float = _FAR
) -> Iterator[Difference]:
    for command, one, other in zip(step.commands, ours, theirs, strict=True):
        in_order = _in_order if command[0] in WALKS else bytes
        if not are_same(in_order(one), in_order(other), far):
            yield Difference(step.connection, command, one, other)


def _in_order(reply: bytes) -> bytes:
    """What tells keys, with these in order."""
    return b"\r\n".join(sorted(reply.split(b"\r\n")))


# -- recordings ----------------------------------------------------------------------------------------------


def recorded(steps: Iterable[Step], server: Side, most: int) -> Iterator[str]:
    """The lines of a recording of what a server replies, step by step, until `most` commands have been taken."""
    count = 0
    for step in steps:
        yield json.dumps([step.connection, _texts(step.commands), _texts_of(server.take(step))])
        count += len(step.commands)
        if count >= most:
            return


def replay(lines: Iterable[str], ours: Side) -> Iterator[Difference]:
    """What of a server's replies differs from a recording, of whenever."""
    for line in lines:
        connection, commands, replies = json.loads(line)
        step = Step(connection, [[_bytes(word) for word in command] for command in commands])
        yield from _differences(step, ours.take(step), list(map(_bytes, replies)), inf)


def _texts(commands: Sequence[Sequence[bytes]]) -> list[list[str]]:
    return [_texts_of(command) for command in commands]


def _texts_of(words: Sequence[bytes]) -> list[str]:
    return [_text(word) for word in words]


def _text(word: bytes) -> str:
    """As it is where it can be read, else encoded."""
    if word.isascii() and not word.startswith(b"=") and b"\0" not in word:
        return word.decode()
    return "=" + b64encode(word).decode()


def _bytes(text: str) -> bytes:
    return b64decode(text[1:]) if text.startswith("=") else text.encode()
