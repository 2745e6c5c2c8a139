"""`epaxos member`: the members of a cluster, and changes of them."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypedDict, Unpack

import click

from epaxos.cli.failures import Exit, complain
from epaxos.cli.members import Members
from epaxos.cli.options import config_option, load, timeout_option
from epaxos.cli.pages import Page
from epaxos.cli.survey import survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Change, Joiner, MemberChange
from epaxos.config import Config, place
from epaxos.errors import ClientError, NoAnswer
from epaxos.protocol.membership import PROTOCOLS, called, incarnation_of

_LOOK: Final = 0.1
"""Seconds between two looks at how far a change is."""

_AGAIN: Final = 5
"""How often a change of members is computed anew from an epoch that another request has begun."""

_TIMEOUT: Final = 30.0
_SILENT: Final = 2.0
"""Seconds after which a member is taken for silent."""

_EXITS: Final = {
    "done": Exit.DONE,
    "possible": Exit.DONE,
    "current": Exit.DONE,
    "superseded": Exit.FAILED,
    "refused": Exit.USAGE,
    "proposed": Exit.NO_ANSWER,
}
"""The exit code of each outcome; what is proposed and not done may still happen."""


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
        members = await _members(client, config, limit)
    _ = members.latest  # or nobody has answered
    return members


async def _members(
    client: AsyncClient, config: Config, limit: float, silent: Mapping[str, str] | None = None
) -> Members:
    return Members(await survey(client, config, limit, digest=False, silent=silent or {}), config)


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


class Asked(TypedDict):
    """What those options are."""

    as_json: bool
    dry: bool
    expected: int | None
    config_file: str | None
    timeout: float | None


_JOINING: Final = """

    A replica that is to join runs with `epaxos serve --join`, and is in the file of this command. Commands of clients
    wait for a few round trips, and none fails. It is done once so many of the new members have the state that the old
    ones are not needed any more. Who goes ends by itself, and never comes back as the same."""

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
    if f == 0:
        click.echo("warning: with f 0 nothing commits while any replica is down", err=True)
    change(ctx, asked, f, e)


@member.command(cls=Page)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_changing
@_helped(
    "epaxos member add delta echo -c conf/five.toml",
    "epaxos member add delta --dry-run",
    about=_JOINING,
)
def add(ctx: click.Context, *, names: tuple[str, ...], **asked: Unpack[Asked]) -> None:
    """Let replicas join that wait for it."""
    change(ctx, asked, add=names)


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
@_changing
@_helped(
    "epaxos member replace bravo delta",
    "epaxos member replace alpha alpha",
    about=_JOINING,
)
def replace(ctx: click.Context, *, old: str, new: str, **asked: Unpack[Asked]) -> None:
    """Put a replica that waits to join in the place of a member, which may be dead, or be called the same."""
    change(ctx, asked, add=[new], remove=[old])


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


@member.command("change", cls=Page)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    required=True,
    help="By which the cluster decides from then on.",
)
@_changing
@_helped(
    "epaxos member change --protocol multipaxos",
    "epaxos member change --protocol epaxos --dry-run",
)
def change_(ctx: click.Context, *, protocol: str, **asked: Unpack[Asked]) -> None:
    """Begin another epoch with the same members and another protocol.

    All that is stored stays, and clients notice nothing but a pause of a few round trips: with multipaxos, until the
    replica leads that has ended the epoch before. The thresholds stay too; e says nothing while there is a leader. The
    change lasts: the configuration files of replicas say how a cluster begins, and are not asked again.
    """
    change(ctx, asked, protocol=protocol)


def change(  # noqa: PLR0913 - what may be other than before, by name
    ctx: click.Context,
    asked: Asked,
    f: int | None = None,
    e: int | None = None,
    *,
    upgrade: bool = False,
    protocol: str | None = None,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    moved: Sequence[str] = (),
) -> None:
    """Ask for another epoch, wait for it and tell what has come of it."""
    timeout = asked["timeout"]
    request = _Refresh(
        load(asked["config_file"]),
        _TIMEOUT if timeout is None else timeout,
        asked["expected"],
        f,
        e,
        upgrade=upgrade,
        protocol=protocol,
        members=(add, remove, moved),
        dry_run=asked["dry"],
    )
    try:
        asyncio.run(request.run())
    except KeyboardInterrupt:
        if not request.asked:
            raise
    told = request.told()
    if asked["as_json"]:
        click.echo(json.dumps(told, indent=2))
    elif _EXITS[told["outcome"]] == Exit.DONE:
        click.echo(told["text"])
    else:
        complain(told["text"], ctx.command_path)
    ctx.exit(_EXITS[told["outcome"]])


class _Refresh:
    """One request for the next epoch, until that is established."""

    def __init__(  # noqa: PLR0913 - the same
        self,
        config: Config,
        timeout: float,
        expected: int | None,
        f: int | None = None,
        e: int | None = None,
        *,
        upgrade: bool = False,
        protocol: str | None = None,
        members: tuple[Sequence[str], Sequence[str], Sequence[str]] = ((), (), ()),
        dry_run: bool,
    ) -> None:
        self._upgrade, self._protocol = upgrade, protocol
        self._add, self._remove, self._moved = members
        self._movers: list[Joiner] = []
        self._joiners: list[Joiner] = []
        self._level = 0
        self._config = config
        self._timeout = timeout
        self._until = monotonic() + timeout
        self._expected = expected
        self._f, self._e = f, e
        self._dry = dry_run
        self._request = secrets.randbits(64) or 1
        self._outcome, self._text = "proposed", "no answer"
        self._progress = ""
        self._replica = ""
        self.base = -1
        self.asked = False

    def told(self) -> dict[str, Any]:
        """What has come of it."""
        return {"outcome": self._outcome, "epoch": self.base + (self._outcome == "done"), "text": self._text}

    def _end(self, outcome: str, text: str) -> None:
        self._outcome, self._text = outcome, text

    async def run(self) -> None:
        """Ask, and wait until there is something to tell.

        Raises:
            ClientError: no replica answered, so that nothing was asked for.
        """
        async with AsyncClient(config=self._config) as client:
            await self._try(client)
            for _ in range(_AGAIN):  # what others do meanwhile is no reason not to do what is wanted
                if self._outcome != "superseded" or not self._wants or monotonic() > self._until:
                    break
                self._request = secrets.randbits(64) or 1
                await self._try(client)
        self._show("")

    @property
    def _wants(self) -> bool:
        """Whether it asks for something that makes sense in whichever epoch."""
        given = (
            *self._add,
            *self._remove,
            *self._moved,
            *(one for one in (self._f, self._e, self._protocol) if one is not None),
        )
        return bool(given) and self._expected is None

    async def _try(self, client: AsyncClient) -> None:
        """Ask from the epoch that the cluster is in now."""
        members = await _members(client, self._config, self._left(_SILENT))
        latest = members.latest
        silent = members.silent
        self.base = latest["epoch"]
        self._level = min(int(replica["newest_level"]) for replica in members.up)
        if self._upgrade and not silent and self._level == latest["level"] == members.newest:
            text = f"the cluster is at level {self._level}, the newest that its programs know"
            self._end("current", text)
        elif self._expected not in (None, self.base):
            text = f"the cluster is in epoch {self.base}, not in {self._expected}; nothing is changed"
            self._end("refused", text)
        elif self._is_so(members):
            names = ", ".join(map(called, members.ids))
            by = f"{self._protocol} with " if self._protocol else ""
            self._end("current", f"that is so in epoch {self.base}: {by}{names}; nothing is changed")
        elif reason := self._find_joiners(members) or await self._find_moved(members):
            self._end("refused", reason)
        elif await self._ask(client, latest["name"], len(members.ids)):
            await self._wait(client, silent)

    def _is_so(self, members: Members) -> bool:
        """Whether those who are to join are members, and those who are to go are none: it is asked for again."""
        now = {called(member): member for member in members.ids}
        gone = set(map(called, members.latest.get("removed", ())))
        places = members.latest.get("addresses", {})
        return bool(self._add or self._remove or self._moved or self._protocol) and (
            self._protocol in (None, members.latest["protocol"])
            and all(
                name in now and places.get(now[name]) == list(self._config.replica(name).place)
                for name in self._moved
            )
            and all(name in now and members.told_of(now[name])["reachable"] for name in self._add)
            and all(name in gone and (name not in now or name in self._add) for name in self._remove)
            and not any(called(other) in self._add for other in members.others)
        )

    def _find_joiners(self, members: Members) -> str:
        """See who those are that are to join; why one of them cannot, if so."""
        self._joiners = []
        now = set(map(called, members.ids))
        for name in self._add:
            waiting = [one for one in members.up if one["name"] == name and one["id"] in members.others]
            if not waiting or not incarnation_of(waiting[0]["id"]):
                is_there = name in now and name not in self._remove
                who = f"{name} is a member, and no other replica" if is_there else "no replica"
                return (
                    f"{who} called {name} waits to join; start it with `epaxos serve --join`, with an empty data "
                    "directory, and have it in this command's file"
                )
            at = members.config.replica(name)
            number = incarnation_of(waiting[0]["id"])
            self._joiners.append(Joiner(name, number, at.host, at.port, at.client_port, at.metrics_port))
        return ""

    async def _find_moved(self, members: Members) -> str:
        """See that those who have moved are where the file says; why not, if so."""
        self._movers = []
        now = {called(member): member for member in members.ids}
        for name in self._moved:
            at = self._config.replica(name)
            if name not in now:
                return f"no member is called {name}; members: {', '.join(now)}"
            there = "nobody"
            with suppress(ClientError):
                async with AsyncClient(at.client_endpoint, config=self._config) as client:
                    there = (await client.status(timeout=self._left(_SILENT))).id
            if there != now[name]:
                where = f"{there} answers at {at.client_endpoint}"
                return f"{where}, and not {now[name]}: start it there first, with its data"
            self._movers.append(Joiner(now[name], 0, *at.place))
        return ""

    def _other(self) -> str:
        """What would be other than before."""
        level = self._level if self._upgrade else None
        values = (("f", self._f), ("e", self._e), ("protocol", self._protocol), ("level", level))
        given = [f"{name} {value}" for name, value in values if value is not None]
        given += [f"{name} new" for name in self._add] + [f"{name} removed" for name in self._remove]
        given += [
            f"{name} at {place(at.host, at.port)}" for name, at in zip(self._moved, self._movers, strict=True)
        ]
        return f" and {', '.join(given)}" if given else ""

    def _left(self, most: float) -> float:
        return max(0.05, min(most, self._until - monotonic()))

    async def _ask(self, client: AsyncClient, name: str, n: int, patience: float = math.inf) -> bool:
        """Ask one replica, again while that is too early; whether it is to be waited for."""
        self.asked = not self._dry
        self._may_begin()
        try:
            while (answer := await self._answer(client, name, patience)).outcome == "early":
                if monotonic() + _LOOK > self._until:
                    break
                await asyncio.sleep(_LOOK)
        except NoAnswer:
            if self._dry:
                raise
            return False
        outcome, text = "refused" if answer.outcome == "early" else answer.outcome, answer.text
        if outcome == "possible":
            who = f"the same {n} members"
            if self._add or self._remove:
                who = f"{n + len(self._add) - len(self._remove)} members"
            text = f"epoch {self.base + 1} would begin with {who}{self._other()}; commands wait a few round trips"
        if outcome not in ("proposed", "done"):
            self._end(outcome, text if outcome == "possible" else f"{name}: {text}")
            return False
        self._replica = name
        return True

    def _may_begin(self) -> None:
        self._end("proposed", f"epoch {self.base + 1} may still begin: `epaxos member list` tells")

    async def _answer(self, client: AsyncClient, name: str, patience: float) -> Change:
        return await client.refresh(
            self.base,
            f=self._f,
            e=self._e,
            protocol=self._protocol,
            upgrade=self._upgrade,
            members=MemberChange(self._joiners, self._remove, self._movers)
            if self._add or self._remove or self._moved
            else None,
            request=self._request,
            dry_run=self._dry,
            replica=name,
            timeout=self._left(patience),
        )

    async def _wait(self, client: AsyncClient, silent: Mapping[str, str]) -> None:
        """Look at the members until the epoch is established; who was silent when this began is not waited for.

        If the replica that was asked falls silent, another one is; whatever it says, the first may have proposed it.
        """
        while monotonic() < self._until:
            members = await _members(client, self._config, self._left(_SILENT), silent)
            with suppress(NoAnswer):
                latest = members.latest  # of one further, only a replica knows who asked for the one between
                is_further = latest["epoch"] > self.base + 1
                if is_further and not await self._ask(client, latest["name"], len(members.ids)):
                    return
                if self._judge(members):
                    return
                if latest["epoch"] == self.base and self._replica in members.silent:
                    await self._ask(client, latest["name"], len(members.ids), _SILENT)
                    self._may_begin()
            await asyncio.sleep(_LOOK)

    def _judge(self, members: Members) -> bool:
        """Whether all is over by what members say."""
        latest = members.latest
        if latest["epoch"] <= self.base:
            self._show(f"epoch {self.base + 1} is being decided")
            return False
        if latest["epoch"] == self.base + 1 and latest["request"] != self._request:
            self._end(
                "superseded", f"epoch {self.base + 1} has begun, by another request; nothing is changed"
            )
            return True
        behind = "".join(f"; {text}" for text in members.catching_up)
        self._show(f"epoch {self.base + 1} established at {members.reached} of {members.needed}{behind}")
        if members.reached < members.needed:
            return False
        names = ", ".join(map(called, members.ids))
        at = f" at level {latest['level']}" if self._upgrade else ""
        at += f" by {latest['protocol']}" if self._protocol else ""
        self._end("done", f"epoch {self.base + 1} established{at}: {names}")
        return True

    def _show(self, text: str) -> None:
        """A line that tells how far it is, on a terminal."""
        if not sys.stderr.isatty() or text == self._progress:
            return
        click.echo(f"\r{text.ljust(len(self._progress))}", err=True, nl=False)
        self._progress = text
        if not text:
            click.echo("\r", err=True, nl=False)
