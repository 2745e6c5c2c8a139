"""The configuration written down: a commented file, and the table of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from epaxos.config.keys import KEYS, REPLICAS, SECTIONS, TOP, Key, describe_keys, keys_of
from epaxos.config.kinds import show
from epaxos.config.validation import make_config

_HEAD: Final = """\
# Configuration of an epaxos cluster; every replica and client reads the same file.
# Durations are written as "500ms" or "1m30s" (h, m, s, ms, us), sizes in bytes. A key that is left out has
# the default shown here; those of the first replica are needed. Variables like EPAXOS_THRIFTY override the file.
"""


def render_file(name: str, replicas: Sequence[dict[str, object]], *, minimal: bool = False) -> str:
    """A file of a cluster called `name`: a commented one of all keys with their defaults, or only what it needs.

    Raises:
        ConfigError: the file would not be valid.
    """
    config = make_config({"name": name, REPLICAS: replicas}, "config init")
    if minimal:
        tables = [[f"[[{REPLICAS}]]", *_render_replica(replica, commented=False)] for replica in replicas]
        return "\n\n".join(map("\n".join, [[f"name = {show(name)}"], *tables])) + "\n"
    values: dict[str, object] = {"name": name, "f": config.f, "e": config.e}
    parts = [_HEAD, *_render_keys(TOP, values)]
    for section in SECTIONS:
        parts += [f"[{section}]", *_render_keys(section, {})]
    for number, replica in enumerate(replicas):
        parts += [f"[[{REPLICAS}]]", *_render_replica(replica, commented=number == 0), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _render_keys(table: str, values: dict[str, object]) -> Iterator[str]:
    """The lines of one table: each key with its comment and an empty line.

    A key without a constant default is commented out, so that it follows the number of replicas.
    """
    for key in keys_of(table):
        yield from _comment(key)
        sign = "# " if key.default is None else ""
        yield f"{sign}{key.name} = {show(values.get(key.name, key.default))}"
        yield ""


def _render_replica(replica: dict[str, object], *, commented: bool) -> Iterator[str]:
    """The lines of one [[replicas]] table."""
    for key in keys_of(REPLICAS):
        if not key.required:
            if commented:
                line = f"# {key.name} = {show(key.example)}"
                yield f"{line:<24}# {key.purpose}"
            continue
        line = f"{key.name} = {show(replica[key.name])}"
        yield f"{line:<24}# {key.purpose}" if commented else line


def _comment(key: Key) -> list[str]:
    """The lines above a key."""
    default = f" Default: {key.default_text}." if key.default_text else ""
    return [f"# {key.purpose}", f"# Allowed: {key.kind.allowed}.{default}"]


def markdown_table() -> str:
    """The table of all keys in Markdown."""
    lines = ["| Key | Default | Allowed | Purpose |", "|-|-|-|-|"]
    for key, row in zip(KEYS, describe_keys(), strict=True):
        default = row.default if key.default is None else f"`{row.default}`"
        lines.append(f"| `{row.key}` | {default} | {row.allowed} | {row.purpose} |")
    return "\n".join(lines) + "\n"
