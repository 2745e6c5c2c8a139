"""Whom a request takes the replica for: a defence of those who let a browser near it.

A page of a stranger may give its own name the address of a replica (DNS rebinding), and is then allowed to ask it
whatever it likes. The header `Host` still has the stranger's name, so without tokens only names that are known to mean
the replica are answered. No such name can be made for an address, nor for localhost.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from epaxos.config import Config
from epaxos.config.kinds import ip_address, show
from epaxos.security.tokens import PROBES
from epaxos.web.pages import text

_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d*)?")


class Hosts:
    """ASGI middleware: lets requests pass to `app` whose Host the configuration names, those without, and probes.

    A browser always sends one.
    """

    def __init__(self, app: ASGIApp, config: Config, open_to_all: Collection[str] = PROBES) -> None:
        self._app = app
        self._open = frozenset(open_to_all)
        named = {name for replica in config.replicas for name in (replica.host, replica.listens_on)}
        self._names = {"localhost"} | {_plain(name) for name in named}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] not in self._open:
            for host in Headers(scope=scope).getlist("host"):
                if not self._knows(host):
                    allowed = "an address, localhost, or the host of a replica in the configuration"
                    line = f"Host: found {show(host)}; allowed without security.keys: {allowed}"
                    await text(line, HTTPStatus.MISDIRECTED_REQUEST)(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]")
        return ip_address(name) is not None or _plain(name) in self._names


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
