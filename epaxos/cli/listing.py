"""`epaxos scan`, `count`, `delete-prefix`: commands on all keys that begin alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Final

import click

from epaxos.cli.pages import Page
from epaxos.cli.store import Target, on_key, reads_option
from epaxos.cli.values import key_bytes, readable
from epaxos.client.reading import Reads

_PAGE: Final = 1000
"""Keys that are asked for at a time."""

_on_prefix: Final = partial(on_key, name="PREFIX")


@click.command(cls=Page)
@click.argument("key", metavar="[PREFIX]", default="")
@click.option("--after", metavar="KEY", help="Begin after this key, which need not be there.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="NUMBER", help="Print at most so many.  [default: all]"
)
@click.option("--reverse", is_flag=True, help="From the last key to the first.")
@click.option("--keys-only", is_flag=True, help="Print no values.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object in each line.")
@click.option("--hex", "hexadecimal", is_flag=True, help="Print keys and values as hexadecimal digits.")
@reads_option("log", "local")
@_on_prefix
def scan(
    target: Target,
    *,
    after: str | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
    as_json: bool,
    hexadecimal: bool,
    reads: Reads,
) -> None:
    r"""Print the keys that begin with PREFIX, in the order of their bytes, with a tab and their values.

    Each is a line of its own: what is no text, or would end the line or the key, is shown as in \x1b or \t.
    With --json: {"key": "a", "value": "b"}, where what is no text stands as {"hex": "00ff"}. --hex-key is for
    --after too.

    All is asked for in pages of 1,000 keys or 1 MiB. Each page is what stood at one moment, and sees every write that
    was answered before; of several groups each has its own moment. A scan waits for all writes under way: to look again
    and again for what has changed it is too dear.

    Exit codes:
      0  done, also if there are none
      2  wrong command line or configuration, or the command is refused
      3  no answer

    Examples:
      epaxos scan
      epaxos scan user/ --keys-only
      epaxos scan user/ --limit 10 --after user/42
      epaxos scan --json user/ | jq -r .key
    """
    if as_json and hexadecimal:
        raise click.UsageError("--json and --hex cannot be given together")
    context = click.get_current_context()
    start = None if after is None else key_bytes(after, "--after", hexadecimal=context.params["hex_key"])
    show = _shown_as_json if as_json else _shown_as_hex if hexadecimal else _shown
    for item in _items(target, start, limit, reads, reverse=reverse, values=not keys_only):
        click.echo(show(*item))


def _items(
    target: Target, after: bytes | None, limit: int | None, reads: Reads, *, reverse: bool, values: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    left = limit
    while left is None or left > 0:
        most = _PAGE if left is None else min(left, _PAGE)
        page = target.client.scan(target.key, after, most, values=values, reverse=reverse, reads=reads)
        yield from page.items if values else zip(page.keys, repeat(None), strict=False)
        after = page.after
        if after is None:
            return
        left = None if left is None else left - len(page.keys)


def _shown(key: bytes, value: bytes | None) -> str:
    return line_of(key) if value is None else f"{line_of(key)}\t{line_of(value)}"


def line_of(text: bytes) -> str:
    """Text without what ends a line, or a column of it."""
    return readable(text.replace(b"\\", rb"\\")).replace("\n", "\\n").replace("\t", "\\t")


def _shown_as_hex(key: bytes, value: bytes | None) -> str:
    return key.hex() if value is None else f"{key.hex()}\t{value.hex()}"


def _shown_as_json(key: bytes, value: bytes | None) -> str:
    pairs = {"key": as_json_value(key)}
    if value is not None:
        pairs["value"] = as_json_value(value)
    return json.dumps(pairs)


def as_json_value(text: bytes) -> str | dict[str, str]:
    """Bytes as JSON has them: text, or their digits."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"hex": text.hex()}


@click.command(cls=Page)
@click.argument("key", metavar="[PREFIX]", default="")
@reads_option("log", "local")
@_on_prefix
def count(target: Target, *, reads: Reads) -> None:
    """Print how many keys begin with PREFIX; all are counted if it is left out.

    Exit codes:
      0  done, also if there are none
      2  wrong command line or configuration, or the command is refused
      3  no answer

    Examples:
      epaxos count
      epaxos count user/
    """
    click.echo(target.client.count(target.key, reads=reads))


@click.command("delete-prefix", cls=Page)
@click.argument("key", metavar="[PREFIX]", default="")
@click.option("--all", "everything", is_flag=True, help="Remove all keys; PREFIX is left out.")
@_on_prefix
def delete_prefix(target: Target, *, everything: bool) -> None:
    """Remove the keys that begin with PREFIX and print how many there were.

    They go 1,000 at a time, in order. What is put meanwhile may stay, and if the command ends before it is done, some
    have gone and the others are there.

    Exit codes:
      0  done, also if there were none
      2  wrong command line or configuration, or the command is refused
      3  no answer; some may have been removed

    Examples:
      epaxos delete-prefix session/
      epaxos delete-prefix --all
    """
    if everything is bool(target.key):
        raise click.UsageError("allowed: PREFIX, or --all to remove all keys")
    click.echo(target.client.delete_prefix(target.key))
