"""What the blocking and the asyncio client have in common: parts of a bulk call, and answers as results."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random, SystemRandom
from typing import Any, Final

from epaxos.client.commands import Op, Result, decode, weigh
from epaxos.client.options import Options
from epaxos.client.session.tickets import Ticket
from epaxos.errors import ClientError, ConfigError, Refused

RANDOM: Final[Random] = SystemRandom()
"""For session ids, which must differ between processes started alike, and for the jitter of retries."""


def parts_of(operations: Sequence[Op], options: Options) -> list[Sequence[Op]]:
    """Cut the commands of a bulk call into what one frame each takes: one part, if they are not very many.

    Raises:
        Refused: a command is too large for any frame.
    """
    parts = []
    start = weight = 0
    for position, operation in enumerate(operations):
        own = weigh(operation.key, operation.argument)
        if own > options.max_weight:
            raise Refused(f"operation {position} of {own} bytes; a frame holds {options.max_weight} at most")
        weight += own
        if position > start and (position - start >= options.max_batch or weight > options.full_frame):
            parts.append(operations[start:position])
            start, weight = position, own
    if start < len(operations):
        parts.append(operations[start:])
    return parts


def result_of(operation: Op, ticket: Ticket[Any]) -> Any:
    """What the only command of a finished ticket returns; the type is that of the operation.

    Raises:
        ClientError: it failed.
    """
    if ticket.error is not None:
        raise ticket.error
    values = ticket.values
    return decode(operation, ticket.outcomes[0], None if values is None else values[0])


def results_of(operations: Sequence[Op], ticket: Ticket[Any]) -> list[Result]:
    """What became of each command of a finished ticket."""
    return [_result_at(position, operation, ticket) for position, operation in enumerate(operations)]


def _result_at(position: int, operation: Op, ticket: Ticket[Any]) -> Result:
    error = ticket.error_at(position)
    if error is not None:
        return Result(error=error)
    value = None if ticket.values is None else ticket.values[position]
    try:
        return Result(decode(operation, ticket.outcomes[position], value))
    except ClientError as failure:
        return Result(error=failure)


def index_of(replica: str | None, options: Options) -> int | None:
    """The index of the replica of that name.

    Raises:
        ConfigError: there is none.
    """
    if replica is None:
        return None
    if replica not in options.names:
        raise ConfigError(f"replica: found {replica!r}; allowed: one of {', '.join(options.names)}")
    return options.names.index(replica)
