"""`epaxos transactions`: those across groups of which some group has a record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from epaxos.cli.failures import Exit, complain
from epaxos.cli.options import config_option, load_any, timeout_option
from epaxos.cli.pages import Page, PagedGroup
from epaxos.config import Config
from epaxos.errors import ConfigError
from epaxos.groups.client import GroupClient
from epaxos.groups.transaction import Fate

if TYPE_CHECKING:
    from epaxos.groups.calls import Recorded

_STATES: Final = {None: "undecided", True: "committed", False: "aborted"}


@click.group(cls=PagedGroup, context_settings={"help_option_names": ["-h", "--help"]})
def transactions() -> None:
    """Transactions across groups (docs/groups.md) of which some group has a record.

    A client ends what it began within moments, and whoever meets a lock ends the transaction of one that died. What
    stays listed has locked keys that nobody has asked for since, or was not forgotten by a client that died.

    Exit codes:
      0  done
      1  there is no such transaction, or one has not ended in time
      2  wrong command line or configuration
      3  no answer

    Examples:
      epaxos transactions list -c groups.toml
      epaxos transactions resolve -c groups.toml --all
    """


@transactions.command(cls=Page, name="list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@config_option
@timeout_option("Give up after this long, like 500ms.")
def list_(*, as_json: bool, config_file: str | None, timeout: float | None) -> None:
    """List the transactions of which a group has a record: name, state, how many keys are locked, groups.

    Those under way are among them: one that is still there after some seconds is nobody's any more. Of each group a
    replica tells the first 1,000 that it knows; another may know more.

    With --json: an array of objects with "name", "state" (undecided, committed or aborted), "locked" (how many keys, by
    group) and "groups".

    Exit codes:
      0  done
      2  wrong command line or configuration
      3  no answer

    Examples:
      epaxos transactions list -c groups.toml
    """
    with _client(config_file, timeout) as client:
        found = client.transactions()
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=2))
        return
    for one in found:
        groups = ", ".join(name.decode() for name in one.groups)
        click.echo(f"{one.name}  {_STATES[one.committed]:<9}  {sum(one.locked.values()):>5} locked  {groups}")


@transactions.command(cls=Page)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="All that are listed.")
@click.option(
    "--commit",
    is_flag=True,
    help="Execute what is locked, whatever other groups vote: for a group that was restored alone.",
)
@config_option
@timeout_option("Give up after this long, like 500ms.")
@click.pass_context
def resolve(
    ctx: click.Context,
    names: tuple[str, ...],
    *,
    every: bool,
    commit: bool,
    config_file: str | None,
    timeout: float | None,
) -> None:
    """End transactions by their names, or by the beginnings of these; print what became of each.

    It is committed if all its groups are prepared, and aborted if one is not: also if its client lives, and has only
    not come so far. What locked keys is executed or dropped, and the records go.

    A group that was restored from a backup alone may be prepared for a transaction that the others have committed and
    forgotten since: it ends as aborted, half done, unless --commit says that it is to be executed there.

    Exit codes:
      0  done
      1  there is no such transaction, or one has not ended in time
      2  wrong command line or configuration
      3  no answer

    Examples:
      epaxos transactions resolve -c groups.toml 5f2c
      epaxos transactions resolve -c groups.toml --all
    """
    if every == bool(names):
        raise click.UsageError("found no NAME, or one beside --all; allowed: one or more names, or --all")
    code = Exit.DONE
    with _client(config_file, timeout) as client:
        listed = client.transactions()
        for one in listed if every else _named(listed, names):
            fate = client.resolve(one.record, one.groups, commit=commit)
            code = Exit.FAILED if fate is None else code
            click.echo(f"{one.name}  {_told(fate)}")
    if not every and (unknown := [name for name in names if not _named(listed, [name])]):
        complain(f"no group has a record of {', '.join(unknown)}", ctx.command_path)
        code = Exit.FAILED
    ctx.exit(code)


def _named(listed: Sequence[Recorded], names: Sequence[str]) -> list[Recorded]:
    return [one for one in listed if any(one.name.startswith(name.lower()) for name in names)]


def _told(fate: Fate | None) -> str:
    if fate is None:
        return "not known in time; ask again"
    return "over: others ended it meanwhile" if fate is Fate.OVER else fate.value


def _client(config_file: str | None, timeout: float | None) -> GroupClient:
    groups = load_any(config_file)
    if isinstance(groups, Config):
        raise ConfigError(f"{groups.source}: found one cluster; allowed: a file of groups")
    return GroupClient(groups, timeout=timeout or max(group.config.client.timeout for group in groups.groups))


def _as_json(one: Recorded) -> dict[str, object]:
    return {
        "name": one.name,
        "state": _STATES[one.committed],
        "locked": {name.decode(): locked for name, locked in one.locked.items()},
        "groups": [name.decode() for name in one.groups],
    }
