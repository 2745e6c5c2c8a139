"""Whether the replicas that are left have taken over all that was begun, executed it, and hold the same state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Status
from epaxos.config import Config
from epaxos.errors import ClientError

PATIENCE: Final = 15.0
"""Seconds that the replicas may take, without load."""

_ANSWER: Final = 2.0


class Settled(NamedTuple):
    """What became of the replicas once nobody asked anything more.

    `seconds` is how long it took, `recovered` how many instances they decided in the place of their owners,
    `wrong` what speaks against it, empty if nothing does.
    """

    seconds: float
    recovered: int
    wrong: str = ""


async def settle(
    config: Config, alive: Sequence[str], tick: Callable[[], Awaitable[None]], patience: float = PATIENCE
) -> Settled:
    """Wait until the replicas `alive` agree; `tick` waits a moment each time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with AsyncClient(config=config) as client:
        while True:
            asked = [client.status(replica=name, digest=True, timeout=_ANSWER) for name in alive]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            statuses = dict(zip(alive, map(_status, answers), strict=True))
            wrong = disagreement(statuses)
            seconds = loop.time() - began
            if not wrong or seconds > patience:
                return Settled(seconds, _recovered(statuses), wrong)
            await tick()


def _status(answer: Status | BaseException) -> dict[str, Any]:
    """A replica's status, or `error`, why there is none."""
    if isinstance(answer, ClientError):
        return {"error": str(answer)}
    if isinstance(answer, BaseException):
        raise answer
    return answer.as_dict()


def disagreement(statuses: Mapping[str, Mapping[str, Any]]) -> str:
    """What keeps replicas from being done and alike, by their statuses; empty if nothing does.

    Done is who has decided and executed every instance that anybody has heard of, those of dead owners too.
    """
    for name, status in statuses.items():
        if "error" in status:
            return f"{name} does not answer: {status['error']}"
        if status["pending"] or status["in_flight"]:
            return f"{name} has not executed {status['pending']} instances, nor decided {status['in_flight']}"
        if not status["seen"] == status["committed"] == status["executed"]:
            return "{}: heard of {seen}, decided {committed}, executed {executed}".format(name, **status)
    for key, what in (
        ("epoch", "are in different epochs"),
        ("executed", "have executed different instances"),
        ("digest", "hold different states"),
    ):
        values = {name: status[key] for name, status in statuses.items()}
        if len({str(value) for value in values.values()}) > 1:
            return f"the replicas {what}: " + ", ".join(f"{name} {value}" for name, value in values.items())
    return ""


def _recovered(statuses: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(status["commits"]["recovered"] for status in statuses.values() if "error" not in status)
