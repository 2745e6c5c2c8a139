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
from typing import Any, Final, NamedTuple, TypedDict, Unpack

import click

from epaxos.cli.failures import Exit, complain
from epaxos.cli.options import config_option, load, timeout_option
from epaxos.cli.pages import Page
from epaxos.cli.survey import Survey, survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Change
from epaxos.config import Config
from epaxos.errors import NoAnswer

_LOOK: Final = 0.1
"""Seconds between two looks at how far a change is."""

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
    """Show the members of a cluster, or begin another epoch with them.

    Examples:
      epaxos member list
      epaxos member refresh
      epaxos member thresholds --e 1

    Exit codes:
      0  done
      1  another change came first
      2  wrong command line or configuration, or refused
      3  no answer in time
    """


class Members(NamedTuple):
    """What a survey says of the members: all as of the latest epoch that a replica is in.

    reached  how many are in that epoch; `needed` of them make it established, and then no earlier one is needed
    """

    found: Survey
    config: Config

    @property
    def up(self) -> list[dict[str, Any]]:
        """The statuses of those that answered."""
        return [replica for replica in self.found.replicas if replica["reachable"]]

    @property
    def silent(self) -> dict[str, str]:
        """The names of those that did not, and why."""
        return {it["name"]: it["error"] for it in self.found.replicas if not it["reachable"]}

    @property
    def latest(self) -> dict[str, Any]:
        """The status of one of those in the latest epoch, of one that serves if there is one.

        Raises:
            NoAnswer: no replica answered.
        """
        if not self.up:
            errors = "; ".join(f"{replica['name']}: {replica['error']}" for replica in self.found.replicas)
            raise NoAnswer(f"no replica answers ({errors})")
        return max(self.up, key=lambda replica: (replica["epoch"], not replica["reasons"]))

    @property
    def reached(self) -> int:
        """See the class."""
        latest = self.latest["epoch"]
        return [int(replica["epoch"]) for replica in self.up].count(latest)

    @property
    def needed(self) -> int:
        """See the class."""
        return len(self.found.replicas) - int(self.latest["f"])

    @property
    def newest(self) -> int:
        """The newest level that the program of one of them knows."""
        return max(int(replica["newest_level"]) for replica in self.up)

    def epoch_of(self, name: str) -> int:
        """The epoch that a member is in; of a silent one, in which it was last heard by those that answered."""
        told: list[int] = [replica["epoch"] for replica in self.up if replica["name"] == name]
        heard: list[int] = [
            replica["peers"][name]["epoch"] for replica in self.up if name in replica["peers"]
        ]
        return max(told or heard)

    def state_of(self, replica: dict[str, Any]) -> str:
        """In a word or two."""
        if not replica["reachable"]:
            return "silent"
        if replica["epoch"] < self.latest["epoch"]:
            return "lags"
        return str(replica["reasons"][0]).partition(":")[0] if replica["reasons"] else "up"

    def as_json(self) -> dict[str, Any]:
        """All of it as an object; docs/cli.md describes it."""
        latest, config = self.latest, self.config
        heard = self.found.heard
        return {
            "cluster": config.name,
            "epoch": latest["epoch"],
            "protocol": latest["protocol"],
            "level": latest["level"],
            "f": latest["f"],
            "e": latest["e"],
            "reached": self.reached,
            "needed": self.needed,
            "established": self.reached >= self.needed,
            "changing": any(replica["changing"] for replica in self.up),
            "spare": None if heard is None else heard - self.found.quorum,
            "members": [
                {
                    "name": address.name,
                    "role": "voter",
                    "host": address.host,
                    "port": address.port,
                    "client_port": address.client_port,
                    "state": self.state_of(replica),
                    "epoch": self.epoch_of(address.name),
                    "behind": replica.get("behind"),
                    "error": replica.get("error"),
                }
                for address, replica in zip(config.replicas, self.found.replicas, strict=True)
            ],
        }

    def lines(self) -> list[str]:
        """The same for people."""
        told = self.as_json()
        established = "established" if told["established"] else "not established"
        spare = "nothing commits now" if told["spare"] < 0 else f"{told['spare'] or 'none'} more may fail"
        heads = [
            f"epoch {told['epoch']}, {established} at {told['reached']} of {len(told['members'])}; "
            f"f {told['f']}, e {told['e']}, {told['protocol']}, level {told['level']}; {spare}"
            + ("; a change is under way" if told["changing"] else "")
        ]
        rows = [
            (
                entry["name"],
                entry["role"],
                f"{entry['host']}:{entry['port']}",
                entry["state"],
                f"epoch {entry['epoch']}",
                f"{entry['behind']} behind" if entry["behind"] else "",
            )
            for entry in told["members"]
        ]
        return heads + _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


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


@member.command(cls=Page)
@_changing
def refresh(ctx: click.Context, **asked: Unpack[Asked]) -> None:
    """Begin another epoch with the same members.

    Replicas drop what they remember of keys that were touched or deleted, and of the log. Commands of clients wait for
    a few round trips meanwhile; none fails. It is done when enough members are in the new epoch. If it is asked for
    again after a lost answer, it happens once.

    Exit codes:
      0  done, or with --dry-run: it would be
      1  another change came first; nothing was changed by this one
      2  wrong command line or configuration, or refused: a line says why
      3  no answer in time, or Ctrl-C: it may still happen (member list tells)

    Examples:
      epaxos member refresh -c conf/local.toml
      epaxos member refresh --dry-run
      epaxos member refresh --expect-epoch 4 --json
    """
    change(ctx, asked)


@member.command(cls=Page)
@click.option("--f", "f", type=click.IntRange(min=0), metavar="N", help="Crashes to survive.")
@click.option("--e", "e", type=click.IntRange(min=0), metavar="N", help="Crashes with a fast path.")
@_changing
def thresholds(ctx: click.Context, *, f: int | None, e: int | None, **asked: Unpack[Asked]) -> None:
    """Begin another epoch with the same members and other thresholds.

    A cluster survives f crashes, and keeps its fast path under e. What is not given stays; if it does not fit any
    more, e becomes as high as it may be. The change lasts: the configuration files of replicas say how a cluster
    begins, and are not asked again.

    Exit codes:
      0  done, or with --dry-run: it would be
      1  another change came first; nothing was changed by this one
      2  wrong command line or configuration, or refused: a line says why
      3  no answer in time, or Ctrl-C: it may still happen (member list tells)

    Examples:
      epaxos member thresholds --e 1
      epaxos member thresholds --f 2 --e 1 --dry-run
    """
    if f is None and e is None:
        raise click.UsageError("say which: --f, --e, or both")
    if f == 0:
        click.echo("warning: with f 0 nothing commits while any replica is down", err=True)
    change(ctx, asked, f, e)


def change(
    ctx: click.Context, asked: Asked, f: int | None = None, e: int | None = None, *, upgrade: bool = False
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

    def __init__(
        self,
        config: Config,
        timeout: float,
        expected: int | None,
        f: int | None = None,
        e: int | None = None,
        *,
        upgrade: bool = False,
        dry_run: bool,
    ) -> None:
        self._upgrade = upgrade
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
            members = await _members(client, self._config, self._left(_SILENT))
            latest = members.latest
            silent = members.silent
            self.base = latest["epoch"]
            self._level = min(int(replica["newest_level"]) for replica in members.up)
            if self._upgrade and not silent and self._level == latest["level"] == members.newest:
                self._end(
                    "current", f"the cluster is at level {self._level}, the newest that its programs know"
                )
                return
            if self._expected not in (None, self.base):
                text = f"the cluster is in epoch {self.base}, not in {self._expected}; nothing is changed"
                self._end("refused", text)
                return
            if await self._ask(client, latest["name"], len(members.found.replicas)):
                await self._wait(client, silent)
        self._show("")

    def _other(self) -> str:
        """What would be other than before."""
        values = (("f", self._f), ("e", self._e), ("level", self._level if self._upgrade else None))
        given = [f"{name} {value}" for name, value in values if value is not None]
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
            text = (
                f"epoch {self.base + 1} would begin with the same {n} members{self._other()}; "
                "commands wait a few round trips"
            )
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
            upgrade=self._upgrade,
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
                if is_further and not await self._ask(client, latest["name"], len(members.found.replicas)):
                    return
                if self._judge(members):
                    return
                if latest["epoch"] == self.base and self._replica in members.silent:
                    await self._ask(client, latest["name"], len(members.found.replicas), _SILENT)
                    self._may_begin()
            await asyncio.sleep(_LOOK)

    def _judge(self, members: Members) -> bool:
        """Whether all is over by what members say."""
        latest, n = members.latest, len(members.found.replicas)
        if latest["epoch"] <= self.base:
            self._show(f"epoch {self.base + 1} is being decided")
            return False
        if latest["epoch"] == self.base + 1 and latest["request"] != self._request:
            self._end(
                "superseded", f"epoch {self.base + 1} has begun, by another request; nothing is changed"
            )
            return True
        self._show(
            f"epoch {self.base + 1} has begun at {members.reached} of {n}, {members.needed} are needed"
        )
        if members.reached < members.needed:
            return False
        names = ", ".join(replica["name"] for replica in members.found.replicas)
        at = f" at level {latest['level']}" if self._upgrade else ""
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
