"""Asking for another epoch of a cluster, for `epaxos member` and `epaxos upgrade`, and waiting for it."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypedDict

import click

from epaxos.cli.failures import Exit, complain
from epaxos.cli.members import Members
from epaxos.cli.options import load
from epaxos.cli.survey import survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Change, Joiner, MemberChange
from epaxos.config import Config, place
from epaxos.errors import ClientError, NoAnswer
from epaxos.protocol.membership import Configuration, called, incarnation_of, joined
from epaxos.protocol.quorums import Quorums

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
    "unknown": Exit.NO_ANSWER,
}
"""The exit code of each outcome; what is proposed and not done may still happen."""


class Asked(TypedDict):
    """What those options are."""

    as_json: bool
    dry: bool
    expected: int | None
    config_file: str | None
    timeout: float | None


async def members_of(
    client: AsyncClient, config: Config, limit: float, silent: Mapping[str, str] | None = None
) -> Members:
    """What replicas say of the members; `silent` are those that are not asked, and why."""
    return Members(await survey(client, config, limit, digest=False, silent=silent or {}), config)


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
    lagging: bool = False,
) -> None:
    """Ask for another epoch, wait for it and tell what has come of it."""
    timeout = asked["timeout"]
    request = Request(
        load(asked["config_file"]),
        _TIMEOUT if timeout is None else timeout,
        asked["expected"],
        f,
        e,
        upgrade=upgrade,
        protocol=protocol,
        members=(add, remove, moved),
        lagging=lagging,
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


class Request:
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
        lagging: bool = False,
        dry_run: bool,
    ) -> None:
        self._upgrade, self._protocol = upgrade, protocol
        # A name that is given twice counts once.
        self._add, self._remove, self._moved = (tuple(dict.fromkeys(names)) for names in members)
        self._lagging = lagging
        self._movers: list[Joiner] = []
        self._joiners: list[Joiner] = []
        self._came: dict[str, str] = {}
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
        self._warned: list[str] = []
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
                if (
                    self._outcome not in ("superseded", "unknown")
                    or not self._wants
                    or monotonic() > self._until
                ):
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
        members = await self._look(client)
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
        else:
            self._warn(members)
            if await self._ask(client, latest["name"], len(members.ids)):
                await self._wait(client, silent)

    async def _look(self, client: AsyncClient) -> Members:
        """What replicas say, once those that are to join have caught up, or there is no more time for that."""
        while True:
            members = await members_of(client, self._config, self._left(_SILENT))
            lag = self._lag(members)
            if not lag or self._lagging or self._dry or monotonic() + _LOOK > self._until:
                return members
            self._show(lag)
            await asyncio.sleep(_LOOK)

    def _lag(self, members: Members) -> str:
        """Who of those that are to join has not caught up, and how far it is; "" if all have.

        One that answered before, or that members have heard, may be too busy with what it fetches to answer each time.
        """
        told = {name: members.waiting(name) for name in self._add}
        joiners = [it for it, heard in members.observers.items() if heard.get("joins")]
        self._came |= {called(it): it for it in joiners if called(it) in self._add}
        lags = {name: members.lag_of(waiting) for name, waiting in told.items() if waiting is not None}
        self._came |= {name: waiting["id"] for name, waiting in told.items() if waiting is not None}
        self._came = {name: it for name, it in self._came.items() if it not in members.ids}
        lags |= dict.fromkeys(self._came.keys() - lags.keys(), "silent, busy or gone")
        return ", ".join(f"{name} is {lags[name]}" for name in self._add if lags.get(name))

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
        now, lag = set(map(called, members.ids)), self._lag(members)
        for name in self._add:
            waiting = members.waiting(name)
            number = incarnation_of(self._came.get(name, "") if waiting is None else waiting["id"])
            if not number:
                is_there = name in now and name not in self._remove
                who = f"{name} is a member, and no other replica" if is_there else "no replica"
                return (
                    f"{who} called {name} waits to join; start it with `epaxos serve --join`, with an empty data "
                    "directory, and have it in this command's file"
                )
            at = members.config.replica(name)
            self._joiners.append(Joiner(name, number, at.host, at.port, at.client_port, at.metrics_port))
        if not lag or self._lagging:
            return ""
        return (
            f"{lag}: ask again when it has caught up, or wait for longer (--timeout), or do not (--lagging)"
        )

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

    def _warn(self, members: Members) -> None:
        """Say what the next epoch will be short of, once: it is for the operator to decide."""
        latest, ids = members.latest, members.ids
        now = Quorums(len(ids), latest["f"], latest["e"])
        stay = [one for one in ids if called(one) not in self._remove]
        running = Configuration(self.base, latest["protocol"], tuple(ids), now.f, now.e)
        names = [*stay, *(joined(one.name, one.incarnation) for one in self._joiners)]
        with suppress(ValueError):  # the replica that is asked says what does not fit together
            following = running.next(self._request, self._f, self._e, names=names).quorums
            with_state = sum(bool(members.told_of(one)["reachable"]) for one in stay)
            waiting = filter(None, map(members.waiting, self._add))
            with_state += sum(not members.lag_of(one) for one in waiting)
            for text in _shortcomings(now, following, with_state):
                if text not in self._warned:
                    self._warned.append(text)
                    self._show("")
                    click.echo(f"warning: {text}", err=True)

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
            members = await members_of(client, self._config, self._left(_SILENT), silent)
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


def _shortcomings(now: Quorums, following: Quorums, with_state: int) -> list[str]:
    """What members of the next epoch can do less than those of the running one, or not at once.

    `with_state` are those that are up and have it: who votes in both, or has caught up; others have to fetch it first.
    """
    texts = []
    if following.f == 0 and following.n > 1:
        texts.append("with f 0 nothing commits while any replica is down")
    elif following.f < now.f:
        texts.append(f"{following.f} may fail then, and not {now.f}")
    if following.n % 2 == 0 and following.n > now.n:
        texts.append(f"{following.n} replicas survive no more crashes than {following.n - 1}")
    if following.n > 1 and with_state < following.slow:
        lacking = following.slow - with_state
        texts.append(f"nothing commits until {lacking} of those that join {_has(lacking)} fetched the state")
    return texts


def _has(number: int) -> str:
    return "has" if number == 1 else "have"
