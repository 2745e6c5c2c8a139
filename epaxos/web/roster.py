"""The members of now, as the page and the API tell of them."""

from __future__ import annotations

from typing import Any, Final

from epaxos.config import Config
from epaxos.metrics import ReplicaStats
from epaxos.protocol.membership import NOBODY, Configuration, called

_PLACE: Final = ("host", "port", "client_port", "metrics_port")
_NOWHERE: Final = (None,) * len(_PLACE)


def list_members(config: Config, configuration: Configuration, stats: ReplicaStats) -> list[dict[str, Any]]:
    """Who votes in the running epoch, in the order of rows; where one is is None if that is not known here."""
    heard = set(stats.heard)
    return [
        {
            "name": called(member),
            "id": member,
            "row": row,
            **dict(zip(_PLACE, _NOWHERE if at is None else at.place, strict=True)),
            "self": member == stats.me,
            "heard": member in heard,
        }
        for row, (member, at) in enumerate(config.members_of(configuration).items())
        if member != NOBODY
    ]
