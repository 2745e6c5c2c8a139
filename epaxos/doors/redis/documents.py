"""The table of commands in docs/redis.md: `python -m epaxos.doors.redis.documents docs/redis.md` puts it there."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from epaxos.doors.redis.door import TABLE
from epaxos.doors.redis.table import Spec

_BEGIN: Final = "<!-- commands: begin -->\n"
_END: Final = "<!-- commands: end -->\n"
_GROUPS: Final = {
    "string": "Strings",
    "generic": "Keys",
    "transactions": "Transactions",
    "pubsub": "Keyspace notifications",
    "connection": "Connections",
    "server": "The server",
}


def markdown() -> str:
    """All commands, a line a group."""
    lines = ["| | commands |", "|-|-|"]
    for group, title in _GROUPS.items():
        names = [_name(spec) for spec in TABLE.values() if spec.group == group]
        lines.append(f"| {title} | {', '.join(names)} |")
    return "\n".join(lines) + "\n"


def _name(spec: Spec) -> str:
    name = spec.name.upper()
    if not spec.subcommands:
        return f"`{name}`"
    return f"`{name}` ({_listed(sub.name.partition('|')[2].upper() for sub in spec.subcommands.values())})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _main(path: Path) -> None:
    text = path.read_text()
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    path.write_text(head + _BEGIN + markdown() + _END + tail)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
