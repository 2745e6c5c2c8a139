"""A data directory as a table of figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from epaxos.inspection.contents import Contents
from epaxos.inspection.wording import place_name, row_name
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Phase

_LOWEST: Final = 8
"""Instances that are named where more are counted."""


def summarise(contents: Contents) -> dict[str, Any]:
    """The figures as JSON has them; numbers of slots are -1 for none, sizes are bytes."""
    identity, configuration, checkpoint = contents.identity, contents.configuration, contents.checkpoint
    phases = Counter(record.phase for record in contents.records.values())
    return {
        "directory": str(contents.path),
        "level": configuration.level,
        "engine": contents.engine,
        "cluster": f"{identity.cluster:016x}",
        "epoch": configuration.epoch,
        "earlier_epochs": contents.earlier,
        "protocol": configuration.protocol,
        "members": list(configuration.names),
        "f": configuration.f,
        "e": configuration.e,
        "n": configuration.n,
        "row": contents.row,
        "name": identity.name,
        "used_by": contents.user,
        "sizes": contents.sizes,
        "rows": _rows(contents),
        "instances": {phase.name.lower(): phases[phase] for phase in Phase},
        "undecided": _counted(contents.undecided()),
        "waiting": _counted(contents.waiting()),
        "executed_above": _counted(sorted(contents.above)),
        "checkpoint": None
        if checkpoint is None
        else {
            "epoch": checkpoint.configuration.epoch,
            "keys": checkpoint.keys,
            "deleted": checkpoint.deleted,
            "sessions": checkpoint.sessions,
        },
    }


def _rows(contents: Contents) -> list[dict[str, Any]]:
    progress, checkpoint, n = contents.progress, contents.checkpoint, contents.configuration.n
    none = (-1,) * contents.rows
    names = (*contents.configuration.names, *[""] * contents.rows)
    rest = (-1,) * (n - contents.rows)  # replicas that are known and own no row of the log
    return [
        {
            "row": row,
            "letter": row_name(row),
            "truncated": (*contents.truncated, *rest)[row],
            "checkpoint": (*(none if checkpoint is None else checkpoint.executed), *rest)[row],
            "executed": (*progress.executed, *rest)[row],
            "committed": (*progress.committed, *rest)[row],
            "highest": (*progress.seen, *rest)[row],
            "incarnation": _hexadecimal(contents.incarnations.get(names[row])),
        }
        for row in range(max(n, contents.rows))
    ]


def _hexadecimal(number: int | None) -> str | None:
    return None if number is None else f"{number:016x}"


def _counted(places: Sequence[InstanceId]) -> dict[str, Any]:
    return {"count": len(places), "lowest": [place_name(place) for place in places[:_LOWEST]]}
