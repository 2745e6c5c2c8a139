"""`epaxos watch`: what changes under keys that begin alike, as it happens."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from epaxos.cli.listing import as_json_value, line_of
from epaxos.cli.pages import Page
from epaxos.cli.store import Target, on_key
from epaxos.client.blocking import Client
from epaxos.client.watch import Changed, Reset, Synced

if TYPE_CHECKING:
    from epaxos.client.watch import Event

_on_prefix: Final = partial(on_key, name="PREFIX")


@click.command(cls=Page)
@click.argument("key", metavar="[PREFIX]", default="")
@click.option("--since", metavar="POSITION", help="Begin after this position, which --json has told.")
@click.option("--state", is_flag=True, help="First print what stands under the keys; also after a gap.")
@click.option("--count", type=click.IntRange(1), metavar="NUMBER", help="End after so many changes.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object in each line.")
@_on_prefix
def watch(target: Target, *, since: str | None, state: bool, count: int | None, as_json: bool) -> None:
    r"""Print what changes under keys that begin with PREFIX, until Ctrl-C: + KEY, a tab and VALUE, or - KEY.

    Each change is printed at least once, those of a key in their order, whichever replica tells it. With --state, =
    stands before what was there when the watch began; a line with * says that all of that has come, or that all
    printed before is to be forgotten, since no replica has kept what has changed meanwhile. Without it a gap ends the
    watch.

    With --json: {"key": "a", "value": "b", "position": "0:5,2,7@9c.1f"}, with null for a key that has gone and where
    there is no position to go on from; {"reset": true}, and {"synced": "0:5,2,7@9c.1f"}. What is no text stands as
    {"hex": "00ff"}.

    Exit codes:
      0    so many changes were printed
      1    some changes are missing, since no replica has kept them
      2    wrong command line or configuration, or the watch is refused
      3    no answer
      130  Ctrl-C

    Examples:
      epaxos watch config/
      epaxos watch --json --state user/ | jq -c .
      epaxos watch --since 0:5,2,7@9c.1f config/
    """
    if not isinstance(target.client, Client):
        raise click.UsageError("a watch needs a file of one cluster, not of groups")
    try:
        follows = target.client.watch(target.key, since=since, state=state)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from error
    show, left = (_as_json if as_json else _as_text), count
    for event in follows:
        click.echo(show(event))
        if left is not None and isinstance(event, Changed) and event.position is not None:
            left -= 1
            if not left:
                return


def _as_text(event: Event[bytes]) -> str:
    if isinstance(event, Reset):
        return "* the state follows"
    if isinstance(event, Synced):
        return f"* changes follow, after {event.position}"
    if event.value is None:
        return f"- {line_of(event.key)}"
    return f"{'=' if event.position is None else '+'} {line_of(event.key)}\t{line_of(event.value)}"


def _as_json(event: Event[bytes]) -> str:
    if isinstance(event, Reset):
        return json.dumps({"reset": True})
    if isinstance(event, Synced):
        return json.dumps({"synced": str(event.position)})
    value = None if event.value is None else as_json_value(event.value)
    position = None if event.position is None else str(event.position)
    return json.dumps({"key": as_json_value(event.key), "value": value, "position": position})
