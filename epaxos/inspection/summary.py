"""A data directory as a table of figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from epaxos.inspection.contents import Contents
from epaxos.inspection.wording import place_name, row_name
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Phase
from epaxos.storage.directory import FORMAT

_LOWEST: Final = 8
"""Instances that are named where more are counted."""


def summarise(contents: Contents) -> dict[str, Any]:
    """The figures as JSON has them; numbers of slots are -1 for none, sizes are bytes."""
    identity, checkpoint = contents.identity, contents.checkpoint
    phases = Counter(record.phase for record in contents.records.values())
    return {
        "directory": str(contents.path),
        "format": FORMAT,
        "engine": contents.engine,
        "cluster": f"{identity.cluster:016x}",
        "n": identity.n,
        "row": identity.row,
        "name": identity.name,
        "used_by": contents.user,
        "sizes": contents.sizes,
        "rows": _rows(contents),
        "instances": {phase.name.lower(): phases[phase] for phase in Phase},
        "undecided": _counted(contents.undecided()),
        "waiting": _counted(contents.waiting()),
        "executed_above": _counted(contents.core.state.executor.above),
        "checkpoint": None
        if checkpoint is None
        else {"keys": checkpoint.keys, "deleted": checkpoint.deleted, "sessions": checkpoint.sessions},
    }


def _rows(contents: Contents) -> list[dict[str, Any]]:
    progress, checkpoint = contents.progress, contents.checkpoint
    none = (-1,) * contents.identity.n
    return [
        {
            "row": row,
            "letter": row_name(row),
            "truncated": contents.truncated[row],
            "checkpoint": (none if checkpoint is None else checkpoint.executed)[row],
            "executed": progress.executed[row],
            "committed": progress.committed[row],
            "highest": progress.seen[row],
            "incarnation": _hexadecimal(contents.incarnations.get(row)),
        }
        for row in range(contents.identity.n)
    ]


def _hexadecimal(number: int | None) -> str | None:
    return None if number is None else f"{number:016x}"


def _counted(places: Sequence[InstanceId]) -> dict[str, Any]:
    return {"count": len(places), "lowest": [place_name(place) for place in places[:_LOWEST]]}
