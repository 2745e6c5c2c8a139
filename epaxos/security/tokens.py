"""Bearer tokens for HTTP: who may see the pages of a replica, and read and write over it.

`Tokens` is ASGI middleware: around the application of a server, it lets those requests pass that name a token of the
list, and tells the application whose it is: of `scope["state"]`, `rights` are its `Rights`, and `token` is the token.
What lasts asks again with `rights_now`.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Collection
from functools import partial
from time import monotonic
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from epaxos.security.access import Access
from epaxos.security.patience import Patience
from epaxos.security.rights import EVERYTHING, Rights

_NONE: Final = "none"
"""In the place of a token: a wrong one."""

PROBES: Final = ("/livez", "/readyz")
"""Open to anybody: what watches over processes has no token, and they say nothing that is not seen from outside."""


def rights_now(scope: Scope) -> Rights | None:
    """What who asks may do by now; None if its token is on the list no more."""
    still: Callable[[], Rights | None] | None = scope.get("state", {}).get("still")
    return EVERYTHING if still is None else still()


class Tokens:
    """Lets requests pass to `app` that name a token of the list, and those for `open_to_all`.

    A browser asks for a name and a password: any name, and the token. `failed` is told the address from which a wrong
    one came. An address that fails again and again is not listened to for a while, so that nobody can guess at any
    speed; nothing waits here meanwhile.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        failed: Callable[[str], None],
        open_to_all: Collection[str] = PROBES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._app = app
        self._access = access
        self._failed = failed
        self._open = frozenset(open_to_all)
        self._clock = clock
        self._patience = Patience()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        address = str((scope.get("client") or ("unknown",))[0])
        header = Headers(scope=scope).get("authorization")
        token = _token_of(header) if header else ""
        rights = self._access.by_token(token) if token else None
        if rights is not None:
            state: dict[str, Any] = scope.setdefault("state", {})
            state.update(rights=rights, token=token, still=partial(self._access.by_token, token))
            await self._app(scope, receive, send)
            return
        await self._refusal(address, wrong=bool(token))(scope, receive, send)

    def _refusal(self, address: str, *, wrong: bool) -> PlainTextResponse:
        """401; to one that goes on trying wrong tokens, 429. Who names none has not tried any."""
        now = self._clock()
        left = self._patience.left(address, now)
        if wrong:
            self._failed(address)
            if not left:
                self._patience.failed(address, now)
        if wrong and left:
            return PlainTextResponse(
                "too many wrong tokens\n", 429, headers={"Retry-After": str(max(1, round(left)))}
            )
        headers = {"WWW-Authenticate": 'Bearer realm="epaxos", Basic realm="epaxos"'}
        return PlainTextResponse("a token is needed: Authorization: Bearer TOKEN\n", 401, headers=headers)


def _token_of(authorization: str) -> str:
    """The token in a header, as Bearer or as the password of Basic; what is not understood is a wrong one."""
    kind, _, told = authorization.partition(" ")
    if kind.lower() != "basic":
        return told.strip() if kind.lower() == "bearer" and told else _NONE
    try:
        return b64decode(told, validate=True).decode().partition(":")[2] or _NONE
    except ValueError:
        return _NONE
