"""The [[replicas]] tables: each complete, no two with the same number, name or address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from epaxos.config.keys import OBSERVERS, REPLICAS, keys_of
from epaxos.config.kinds import ip_address, show
from epaxos.config.model import ReplicaAddress
from epaxos.config.settings import Setting, read_table

_PORTS: Final = ("port", "client_port", "metrics_port", "redis_port")


class _Row(NamedTuple):
    """One table with its label in messages, as in "replica 2 (bravo)", and its valid settings."""

    label: str
    settings: dict[str, Setting]


class _Claim(NamedTuple):
    """Something that one replica alone may have, and the setting that claims it for a replica."""

    what: str
    identity: object
    shown: str
    owner: str
    setting: Setting


def read_replicas(
    raw: object, watching: object, source: str, problems: list[str]
) -> tuple[tuple[ReplicaAddress, ...], tuple[ReplicaAddress, ...]]:
    """The replicas, and the observers, sorted by pid; add what is wrong to `problems` and leave out incomplete ones."""
    if not isinstance(raw, list) or not raw or not all(isinstance(table, dict) for table in raw):
        problems.append(
            f"{source}: {REPLICAS}: found {_found(raw)}; allowed: one [[{REPLICAS}]] table or more"
        )
        return (), ()
    if not isinstance(watching, list) or not all(isinstance(table, dict) for table in watching):
        problems.append(f"{source}: {OBSERVERS}: found {_found(watching)}; allowed: [[{OBSERVERS}]] tables")
        return (), ()
    rows = _read_rows("replica", raw, source, problems)
    others = _read_rows("observer", watching, source, problems)
    _check_claims(_claims([*rows, *others]), problems)
    return _complete(rows), _complete(others)


def _complete(rows: Iterable[_Row]) -> tuple[ReplicaAddress, ...]:
    required = {key.name for key in keys_of(REPLICAS) if key.required}
    complete = (row.settings for row in rows if required <= row.settings.keys())
    replicas = (
        ReplicaAddress(**{name: setting.value for name, setting in settings.items()}) for settings in complete
    )
    return tuple(sorted(replicas, key=lambda replica: replica.pid))


def _found(raw: object) -> str:
    """What stands in the place of the tables."""
    return "none" if raw in (None, []) else show(raw)


def _read_rows(
    what: str, tables: Iterable[Mapping[str, object]], source: str, problems: list[str]
) -> list[_Row]:
    return [_read_row(f"{what} {number}", table, source, problems) for number, table in enumerate(tables, 1)]


def _read_row(called: str, table: Mapping[str, object], source: str, problems: list[str]) -> _Row:
    """Read one table, which is called like that; numbers count from 1."""
    name = table.get("name")
    label = f"{called} ({show(name)[1:-1]})" if isinstance(name, str) else called
    settings = read_table(REPLICAS, table, f"{source}: {label}, ", problems)
    problems += [
        f"{source}: {label}, {key.name}: missing; allowed: {key.kind.allowed}"
        for key in keys_of(REPLICAS)
        if key.required and key.name not in settings
    ]
    return _Row(label, {name: setting for name, setting in settings.items() if setting is not None})


def _claims(rows: Iterable[_Row]) -> Iterable[_Claim]:
    """All that must be distinct, in the order of the file."""
    for label, settings in rows:
        for name in ("pid", "name"):
            if name in settings:
                setting = settings[name]
                yield _Claim(name, setting.value, setting.found, label, setting)
        for name in _PORTS:
            if name in settings and "host" in settings:
                host, port = settings["host"].value, settings[name].value
                yield _Claim(
                    "address",
                    (_same_host(host), port),
                    f"{host}:{port}",
                    f"{label}, {name}",
                    settings[name],
                )


def _same_host(host: str) -> object:
    """Equal for two ways to write one host that can be known without a name server."""
    return ip_address(host) or host.lower().removesuffix(".")


def _check_claims(claims: Iterable[_Claim], problems: list[str]) -> None:
    """Add a problem for each claim of something that was claimed before."""
    owners: dict[tuple[str, object], str] = {}
    for claim in claims:
        owner = owners.setdefault((claim.what, claim.identity), claim.owner)
        if owner != claim.owner:
            problems.append(
                f"{claim.setting.place}: found {claim.setting.found}; allowed: a distinct {claim.what};"
                f" {claim.shown} is taken by {owner}"
            )
