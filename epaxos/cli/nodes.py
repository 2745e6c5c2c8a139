"""The nodes of registers that a command is for: who they are, how they are asked, and with which keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import click

from epaxos.config import SecurityConfig, load_config
from epaxos.config.settings import FILE_VARIABLE, REGISTERS_VARIABLE
from epaxos.registers import http, zeromq
from epaxos.registers.guard import ClientKeys, Keys, node_keys
from epaxos.registers.programs import Address, ask
from epaxos.security.access import Access
from epaxos.transport.registers import ID_MAX

Function = TypeVar("Function", bound=Callable[..., Any])

VARIABLE: Final = REGISTERS_VARIABLE
OVER: Final = "tcp://"
"""Before the address of a node that is asked over ZeroMQ."""


class Nodes:
    """The nodes that are named: host and port by number, and how they are asked."""

    def __init__(
        self, addresses: Mapping[int, Address], security: SecurityConfig, *, over_zeromq: bool
    ) -> None:
        self.addresses = dict(addresses)
        self.security = security
        self.over_zeromq = over_zeromq
        self._own: Keys | None = None

    @property
    def _keys(self) -> Keys | None:
        """With which they are asked; read when that is to happen, as a node has others."""
        if self._own is None and self.security.keys:
            self._own = ClientKeys(self.security, self.addresses)
        return self._own

    def become(self, id_: int) -> Access | None:
        """Ask with the keys of this node from now on; None where nobody has keys.

        Raises:
            ConfigError: they are wrong.
        """
        if not self.security.keys:
            return None
        access = node_keys(self.security.keys, id_, self.addresses)
        self._own = access
        return access

    def ask(self, path: str, asked: Mapping[str, Any], timeout: float, *ids: int) -> dict[str, Any]:
        """Ask those of these ids, or all, one after another until one answers."""
        exchange = partial(zeromq.exchange, keys=self._keys) if self.over_zeromq else http.exchange
        return ask(
            {id_: self.addresses[id_] for id_ in ids or self.addresses}, exchange, path, asked, timeout
        )

    def transport(self) -> http.HttpTransport | zeromq.ZeroMqTransport:
        """How they ask each other."""
        if self.over_zeromq:
            return zeromq.ZeroMqTransport(self.addresses, self._keys)
        return http.HttpTransport(self.addresses)

    def check(self, id_: int, text: str) -> None:
        """See that a node has this number.

        Raises:
            click.UsageError: none has.
        """
        if id_ not in self.addresses:
            there = ", ".join(map(str, self.addresses))
            raise click.UsageError(f"{text}: no node has this number; there are {there}")


def _secured(ctx: click.Context, _: click.Parameter, file: str | None) -> None:
    """A click callback: what [security] says, of a file or the environment, for `_named`."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("EPAXOS_SECURITY_")}
    ctx.meta[VARIABLE] = load_config(file or os.devnull, ours).security


def _named(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> Nodes:
    """A click callback: the nodes that are named."""
    texts = given or tuple(filter(None, os.environ.get(VARIABLE, "").split(",")))
    if not texts:
        raise click.BadParameter(f"no node is named; use --node ID=HOST:PORT, or the variable {VARIABLE}")
    found: dict[int, Address] = {}
    ways = set()
    for text in texts:
        id_, equals, place = text.strip().partition("=")
        ways.add(place.startswith(OVER))
        host, colon, port = place.removeprefix(OVER).rpartition(":")
        if not (equals and colon and host and id_.isdecimal() and port.isdecimal() and 0 < int(port) < 65536):
            raise click.BadParameter(
                f"found {text!r}; allowed: ID=HOST:PORT or ID={OVER}HOST:PORT, like 0=localhost:4300"
            )
        if int(id_) > ID_MAX or int(id_) in found:
            raise click.BadParameter(f"found {text!r}; allowed: ids from 0 to {ID_MAX}, each once")
        found[int(id_)] = (host.strip("[]"), int(port))
    if len(ways) > 1:
        raise click.BadParameter(f"some addresses begin with {OVER} and some do not; allowed: all or none")
    security: SecurityConfig = ctx.meta[VARIABLE]
    over_zeromq = ways.pop()
    if security.keys and not over_zeromq:
        raise click.BadParameter(
            f"there are keys (security.keys), and with keys nodes are asked over ZeroMQ; allowed: ID={OVER}HOST:PORT"
        )
    return Nodes(found, security, over_zeromq=over_zeromq)


def named_nodes(function: Function) -> Function:
    """Options of a command that is given `nodes`: the nodes, and whose table [security] counts."""
    function = click.option(
        "-c",
        "--config",
        "config_file",
        metavar="FILE",
        envvar=FILE_VARIABLE,
        is_eager=True,
        expose_value=False,
        callback=_secured,
        help=f"Whose table [security] counts.  [default: {FILE_VARIABLE}, or none]",
    )(function)
    return click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="ID=HOST:PORT",
        callback=_named,
        help=f"A node; give all of them. {OVER}HOST:PORT is asked over ZeroMQ.  [default: {VARIABLE}]",
    )(function)
