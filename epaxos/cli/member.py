"""`epaxos member`: the members of a cluster, and changes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final, Unpack

import click

from epaxos.cli.changing import Asked, change, members_of
from epaxos.cli.members import Members
from epaxos.cli.options import config_option, load, timeout_option
from epaxos.cli.pages import Page
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import Config
from epaxos.protocol.membership import PROTOCOLS


class _Group(Page, click.Group):
    """A group whose help keeps its examples."""


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def member() -> None:
    """Show the members of a cluster, or begin another epoch, with them or with others.

    Examples:
      epaxos member list
      epaxos member replace bravo delta
      epaxos member refresh
      epaxos member thresholds --e 1
      epaxos member change --protocol multipaxos

    Exit codes:
      0  done
      1  another change came first
      2  wrong command line or configuration, or refused
      3  no answer in time
    """


@member.command("list", cls=Page)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@timeout_option("A replica that does not answer within this long is silent.")
def list_(*, as_json: bool, config_file: str | None, timeout: float | None) -> None:
    """Show the epoch of a cluster, its members, and how many may fail.

    An epoch is the time for which one configuration of members lasts. It is established once so many voters are in it
    that the one before is not needed any more. The state of a member is up, silent, or lags: it is in an earlier epoch.

    Exit codes:
      0  done
      2  wrong command line or configuration
      3  no replica answered

    Examples:
      epaxos member list -c conf/local.toml
      epaxos member list --json | jq .epoch
    """
    config = load(config_file)
    limit = config.client.timeout if timeout is None else timeout
    members = asyncio.run(_look(config, limit))
    if as_json:
        click.echo(json.dumps(members.as_json(), indent=2))
    else:
        click.echo("\n".join(members.lines()))


async def _look(config: Config, limit: float) -> Members:
    async with AsyncClient(config=config) as client:
        members = await members_of(client, config, limit)
    _ = members.latest  # or nobody has answered
    return members


def _changing(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all changes have."""
    for option in (
        click.pass_context,
        timeout_option("Give up waiting after this long; the change may still happen.", "30s"),
        config_option,
        click.option(
            "--expect-epoch",
            "expected",
            type=click.IntRange(min=0),
            metavar="N",
            help="Refuse if the cluster is in another epoch.",
        ),
        click.option("--dry-run", "dry", is_flag=True, help="Say what would happen, and change nothing."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        command = option(command)
    return command


_JOINING: Final = """

    A replica that is to join runs with `epaxos serve --join`, and is in the file of this command. It follows what the
    members decide, and this command waits until it has caught up, so that it votes at once. Commands of clients wait
    for a few round trips, and none fails. It is done once so many of the new members have the state that the old
    ones are not needed any more. Who goes ends by itself, and never comes back as the same."""

_lagging = click.option("--lagging", is_flag=True, help="Let in at once who has not caught up.")

_EXIT_CODES: Final = """

    Exit codes:
      0  done, or with --dry-run: it would be
      1  another change came first; nothing was changed by this one
      2  wrong command line or configuration, or refused: a line says why
      3  no answer in time, or Ctrl-C: it may still happen (member list tells)

    Examples:
"""


def _helped(*examples: str, about: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds to the help of a change of members what all of these have in common."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        listed = "\n".join(f"      {example}" for example in examples)
        command.__doc__ = (command.__doc__ or "").rstrip() + about + _EXIT_CODES + listed
        return command

    return give


@member.command(cls=Page)
@_changing
@_helped(
    "epaxos member refresh -c conf/local.toml",
    "epaxos member refresh --dry-run",
    "epaxos member refresh --expect-epoch 4 --json",
)
def refresh(ctx: click.Context, **asked: Unpack[Asked]) -> None:
    """Begin another epoch with the same members.

    Replicas drop what they remember of keys that were touched or deleted, and of the log. Commands of clients wait for
    a few round trips meanwhile; none fails. It is done when enough members are in the new epoch. If it is asked for
    again after a lost answer, it happens once.
    """
    change(ctx, asked)


@member.command(cls=Page)
@click.option("--f", "f", type=click.IntRange(min=0), metavar="N", help="Crashes to survive.")
@click.option("--e", "e", type=click.IntRange(min=0), metavar="N", help="Crashes with a fast path.")
@_changing
@_helped(
    "epaxos member thresholds --e 1",
    "epaxos member thresholds --f 2 --e 1 --dry-run",
)
def thresholds(ctx: click.Context, *, f: int | None, e: int | None, **asked: Unpack[Asked]) -> None:
    """Begin another epoch with the same members and other thresholds.

    A cluster survives f crashes, and keeps its fast path under e. What is not given stays; if it does not fit any
    more, e becomes as high as it may be. The change lasts: the configuration files of replicas say how a cluster
    begins, and are not asked again.
    """
    if f is None and e is None:
        raise click.UsageError("say which: --f, --e, or both")
    change(ctx, asked, f, e)


@member.command("change", cls=Page)
@click.option("--add", "joiners", metavar="NAME", multiple=True, help="Let one join that waits for it.")
@click.option("--remove", "leavers", metavar="NAME", multiple=True, help="Remove a member.")
@click.option(
    "--replace",
    "replaced",
    metavar="OLD NEW",
    type=(str, str),
    multiple=True,
    help="Put one that waits to join in the place of a member.",
)
@click.option("--f", "f", type=click.IntRange(min=0), metavar="N", help="Crashes to survive.")
@click.option("--e", "e", type=click.IntRange(min=0), metavar="N", help="Crashes with a fast path.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="By which the cluster decides from then on.")
@_lagging
@_changing
@_helped(
    "epaxos member change --add delta --add echo -c conf/five.toml",
    "epaxos member change --replace alpha delta --replace bravo echo --dry-run",
    "epaxos member change --remove delta --remove echo --e 1",
    "epaxos member change --protocol multipaxos",
    about=_JOINING,
)
def change_(
    ctx: click.Context,
    *,
    joiners: tuple[str, ...],
    leavers: tuple[str, ...],
    replaced: tuple[tuple[str, str], ...],
    f: int | None,
    e: int | None,
    protocol: str | None,
    lagging: bool,
    **asked: Unpack[Asked],
) -> None:
    """Change several members, thresholds and the protocol in one step: what names a member may be given again.

    With another protocol all that is stored stays, and clients notice nothing but a pause of a few round trips: with
    multipaxos, until the replica leads that has ended the epoch before. e says nothing while there is a leader. The
    change lasts: the configuration files of replicas say how a cluster begins, and are not asked again.
    """
    add = [*joiners, *(new for _, new in replaced)]
    remove = [*leavers, *(old for old, _ in replaced)]
    if not add and not remove and (f, e, protocol) == (None, None, None):
        raise click.UsageError(
            "say which: --add, --remove, --replace, --f, --e, --protocol, or several of them"
        )
    for option, names in (("--add or --replace", add), ("--remove or --replace", remove)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise click.UsageError(f"{option}: {', '.join(twice)} is named twice")
    change(ctx, asked, f, e, protocol=protocol, add=add, remove=remove, lagging=lagging)


@member.command(cls=Page)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_lagging
@_changing
@_helped(
    "epaxos member add delta echo -c conf/five.toml",
    "epaxos member add delta --dry-run",
    about=_JOINING,
)
def add(ctx: click.Context, *, names: tuple[str, ...], lagging: bool, **asked: Unpack[Asked]) -> None:
    """Let replicas join that wait for it."""
    change(ctx, asked, add=names, lagging=lagging)


@member.command(cls=Page)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_changing
@_helped(
    "epaxos member remove echo",
    "epaxos member remove delta echo --json",
    about=_JOINING,
)
def remove(ctx: click.Context, *, names: tuple[str, ...], **asked: Unpack[Asked]) -> None:
    """Remove members; they may be dead."""
    change(ctx, asked, remove=names)


@member.command(cls=Page)
@click.argument("old")
@click.argument("new")
@_lagging
@_changing
@_helped(
    "epaxos member replace bravo delta",
    "epaxos member replace alpha alpha",
    about=_JOINING,
)
def replace(ctx: click.Context, *, old: str, new: str, lagging: bool, **asked: Unpack[Asked]) -> None:
    """Put a replica that waits to join in the place of a member, which may be dead, or be called the same."""
    change(ctx, asked, add=[new], remove=[old], lagging=lagging)


@member.command(cls=Page)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_changing
@_helped(
    "epaxos member move alpha -c new.toml",
    "epaxos member move alpha bravo --dry-run",
)
def move(ctx: click.Context, *, names: tuple[str, ...], **asked: Unpack[Asked]) -> None:
    """Tell the others where members are that have moved to another address.

    Stop a member, bring its data directory to where it is to be, and start it there with a file that says so; then give
    this command that file. The others look for it there from then on, whatever their own files say, and clients are
    told. While it moves it counts as one that is down.
    """
    change(ctx, asked, moved=names)
