"""Which group holds which keys: `groups.toml`, and the hash slots that it deals out.

    [[groups]]
    name = "east"
    config = "east.toml"
    slots = "0-8191"

Each group is a cluster with a configuration of its own, whose path is taken from where this file is. The slots are
those of Redis Cluster: 16,384 of them, a key's by CRC-16, of the part in braces if it has one ("{user7}.name"), so that
keys that belong together can be kept in one group. Every slot belongs to one group.
"""

from __future__ import annotations

import os
from binascii import crc_hqx
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epaxos.config import Config, load_config
from epaxos.config.kinds import show
from epaxos.config.loading import read_file
from epaxos.errors import ConfigError

SLOTS: Final = 16_384
_KEYS: Final = ("name", "config", "slots")


@dataclass(frozen=True)
class Group:
    """A cluster that holds part of the keys; `slots` are half-open ranges, ascending."""

    name: str
    config: Config
    slots: tuple[range, ...]


@dataclass(frozen=True)
class Groups:
    """All groups of a service, of the file `source`; `owners` has the position of the group of each slot."""

    groups: tuple[Group, ...]
    owners: tuple[int, ...]
    source: str = "groups.toml"

    def of(self, key: bytes) -> Group:
        """The group that holds a key."""
        return self.groups[self.owners[slot_of(key)]]

    def told_to(self, name: str) -> bytes:
        """What a group keeps of the first file by which it was used: its own name, then all with their slots."""
        lines = [name]
        lines += [
            f"{group.name} {','.join(f'{part.start}-{part.stop - 1}' for part in group.slots)}"
            for group in sorted(self.groups, key=lambda group: group.name)
        ]
        return "\n".join(lines).encode()

    def difference(self, name: str, found: bytes) -> str:
        """How another file, which a group keeps, differs from this one, in a line."""
        theirs, mine = found.decode(errors="replace").split("\n"), self.told_to(name).decode().split("\n")
        if theirs[0] != name:
            return f"{self.source}: the cluster named as group {name} has been used as group {theirs[0]}"
        one = next((line for line in mine[1:] if line not in theirs), "no more")
        other = next((line for line in theirs[1:] if line not in mine), "no more")
        return (
            f"{self.source} says {one!r}, and the file by which group {name} was first used {other!r}; "
            "allowed: the same slots everywhere"
        )


def slot_of(key: bytes) -> int:
    """The slot of a key: of what stands between its first "{" and the next "}", if that is not empty, else of all."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def load_groups(path: str, environ: Mapping[str, str] = os.environ) -> Groups:
    """Read and check a file of groups and the configurations that it names.

    Raises:
        ConfigError: with a line for each problem.
    """
    document = read_file(path)
    tables = document.pop("groups", None)
    problems = [f"{path}: unknown key {show(key)}; allowed: groups" for key in document]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{path}: groups: allowed: one or more tables [[groups]] with {', '.join(_KEYS)}")
        raise ConfigError("\n".join(problems))
    groups = [
        _group(f"{path}: groups[{place}]", path, table, environ, problems)
        for place, table in enumerate(tables)
    ]
    whole = [group for group in groups if group is not None]
    if not problems:
        _check_together(path, whole, problems)
    owners = _owners(path, whole, problems) if not problems else ()
    if problems:
        raise ConfigError("\n".join(problems))
    return Groups(tuple(whole), owners, path)


def _group(
    where: str, path: str, table: dict[str, Any], environ: Mapping[str, str], problems: list[str]
) -> Group | None:
    before = len(problems)
    problems += [
        f"{where}: unknown key {show(key)}; allowed: {', '.join(_KEYS)}" for key in table if key not in _KEYS
    ]
    for key in _KEYS:
        if not isinstance(table.get(key), str) or not table[key]:
            problems.append(f"{where}.{key}: found {show(table.get(key))}; allowed: a string")
    if len(problems) > before:
        return None
    slots = _ranges(f"{where}.slots", table["slots"], problems)
    try:
        config = load_config(str(Path(path).parent / table["config"]), environ)
    except ConfigError as error:
        problems += [f"{where}.config: {line}" for line in str(error).splitlines()]
        return None
    return Group(table["name"], config, slots)


def _ranges(where: str, text: str, problems: list[str]) -> tuple[range, ...]:
    ranges = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < SLOTS):
            problems.append(
                f"{where}: found {show(part.strip())}; allowed: slots like 0-8191,9000, up to {SLOTS - 1}"
            )
            return ()
        ranges.append(range(int(first), int(last) + 1))
    return tuple(ranges)


def _check_together(path: str, groups: list[Group], problems: list[str]) -> None:
    names: dict[str, int] = {}
    members: dict[str, str] = {}
    for place, group in enumerate(groups):
        if (other := names.setdefault(group.name, place)) != place:
            problems.append(
                f"{path}: groups[{place}].name: {show(group.name)} names groups[{other}] too; allowed: each once"
            )
        for replica in group.config.replicas:
            address = f"{replica.host}:{replica.port}"
            if (owner := members.setdefault(address, group.name)) != group.name:
                problems.append(
                    f"{path}: groups[{place}].config: {address} is also in group {show(owner)}; allowed: its own"
                )


def _owners(path: str, groups: list[Group], problems: list[str]) -> tuple[int, ...]:
    owners: list[int | None] = [None] * SLOTS
    for place, group in enumerate(groups):
        for part in group.slots:
            taken = next((slot for slot in part if owners[slot] is not None), None)
            if taken is not None:
                other = groups[owners[taken] or 0].name
                problems.append(
                    f"{path}: slot {taken} is given to {show(other)} and {show(group.name)}; allowed: each once"
                )
                return ()
            owners[part.start : part.stop] = [place] * len(part)
    if None in owners:
        first = owners.index(None)
        last = next((slot for slot in range(first, SLOTS) if owners[slot] is not None), SLOTS) - 1
        problems.append(f"{path}: slots {first}-{last} belong to no group; allowed: all 0-{SLOTS - 1} to one")
        return ()
    return tuple(owner for owner in owners if owner is not None)
