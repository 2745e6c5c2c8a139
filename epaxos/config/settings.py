"""Values with where they come from: read from a file's tables and from the environment, each by its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from epaxos.config.keys import KEYS, OBSERVERS, REPLICAS, SECTIONS, TOP, VARIABLES, keys_of
from epaxos.config.kinds import printable, show
from epaxos.config.suggestion import advice

PREFIX: Final = "EPAXOS_"
FILE_VARIABLE: Final = "EPAXOS_CONFIG"
"""Names the configuration file, and so is no key of it."""

REPLICA_VARIABLE: Final = "EPAXOS_REPLICA"
"""Names the replica that a process is, where all of them are started alike; not a matter of the cluster."""

REGISTERS_VARIABLE: Final = "EPAXOS_REGISTERS"
"""Names the nodes of registers, which are no matter of a cluster either."""

_NO_KEYS: Final = (FILE_VARIABLE, REPLICA_VARIABLE, REGISTERS_VARIABLE)


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one key.

    place     where a message points: file and key, or variable
    raw       the value as it stands in the file, in the variable, or as the default
    value     what it means
    default   whether the user said nothing
    variable  the environment variable that it is from, if any
    """

    place: str
    raw: object
    value: Any
    default: bool = False
    variable: str = ""

    @property
    def found(self) -> str:
        """The value as the user wrote it, beside its place."""
        return f"{show(self.raw)} (the default)" if self.default else show(self.raw)

    @property
    def elsewhere(self) -> str:
        """The value as the user wrote it, beside the place of another one."""
        return f"{self.found} (from {self.variable})" if self.variable else self.found


Settings: TypeAlias = dict[str, Setting]
"""By the path of the key. A key with a wrong value is missing: its own problem is reported already."""


def read_defaults(source: str) -> Settings:
    """The settings of all keys that have a default."""
    return {
        key.path: Setting(f"{source}: {key.path}", key.default, key.kind.read(key.default), default=True)
        for key in KEYS
        if key.default is not None
    }


def read_document(
    document: Mapping[str, object], source: str, settings: Settings, problems: list[str]
) -> None:
    """Take over into `settings` what a file says outside of [[replicas]]; add what is wrong to `problems`."""
    top = {name: raw for name, raw in document.items() if name not in {*SECTIONS, REPLICAS, OBSERVERS}}
    _merge(TOP, read_table(TOP, top, f"{source}: ", problems), settings)
    for section in SECTIONS:
        table = document.get(section, {})
        if isinstance(table, dict):
            _merge(section, read_table(section, table, f"{source}: {section}.", problems), settings)
        else:
            problems.append(f"{source}: {section}: found {show(table)}; allowed: a table, [{section}]")


def read_table(
    table: str, content: Mapping[str, object], prefix: str, problems: list[str]
) -> dict[str, Setting | None]:
    """The settings in one table of a file by the names of their keys, None where the value is not allowed.

    `prefix` with the name of a key is where a message points.
    """
    known = {key.name: key for key in keys_of(table)}
    settings: dict[str, Setting | None] = {}
    for name, raw in content.items():
        place = prefix + _key_text(name)
        if name not in known:
            problems.append(f"{place}: unknown key; {_advice_on_key(name, table)}")
            continue
        kind = known[name].kind
        try:
            settings[name] = Setting(place, raw, kind.read(raw))
        except ValueError:
            settings[name] = None
            problems.append(f"{place}: found {show(raw)}; allowed: {kind.allowed}")
    return settings


def read_environment(environ: Mapping[str, str], settings: Settings, problems: list[str]) -> None:
    """Take over into `settings` what the EPAXOS_ variables say; add what is wrong to `problems`."""
    for variable in sorted(name for name in environ if name.startswith(PREFIX) and name not in _NO_KEYS):
        place = f"environment: {printable(variable)}"
        key = VARIABLES.get(variable)
        if key is None:
            tip = advice(variable, (*VARIABLES, *_NO_KEYS))
            problems.append(f"{place}: unknown variable; {tip}")
            continue
        try:
            raw = key.kind.from_text(environ[variable])
            settings[key.path] = Setting(place, raw, key.kind.read(raw), variable=variable)
        except ValueError:
            problems.append(f"{place}: found {show(environ[variable])}; allowed: {key.kind.allowed}")


def _merge(table: str, read: Mapping[str, Setting | None], settings: Settings) -> None:
    """Put what was read from a table in the place of the defaults."""
    for name, setting in read.items():
        path = f"{table}.{name}" if table else name
        if setting is None:
            settings.pop(path, None)
        else:
            settings[path] = setting


def _advice_on_key(name: str, table: str) -> str:
    """What to do about a key that its table does not have."""
    if table != TOP and any(key.name == name for key in keys_of(TOP)):
        # A line added at the end of a file belongs to the last table there, which surprises many.
        return f"{show(name)} belongs to the top of the file, before the first table"
    tables = () if table else (*SECTIONS, REPLICAS, OBSERVERS)
    return advice(name, (*(key.name for key in keys_of(table)), *tables))


def _key_text(name: str) -> str:
    """The name of a key as a file would show it: in quotes where it needs them."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 80
    return name if bare else show(name)
