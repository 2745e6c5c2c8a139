"""Errors of the API: problem details (RFC 9457), which say whether the command may have executed."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from epaxos.client.results import MultiAborted
from epaxos.doors.desk import Full
from epaxos.errors import Busy, ClientError, Locked, OperationFailed, Refused, Untold
from epaxos.statemachine.operations import Outcome

MEDIA_TYPE: Final = "application/problem+json"
_TAG: Final = "tag:epaxos,2026:"
"""What the types of problems begin with: names (RFC 4151), which lead nowhere."""


class Kind(NamedTuple):
    """A kind of problem: the end of its type, its status, what it is in a few words; whether to come `again` soon."""

    name: str
    status: HTTPStatus
    title: str
    again: bool = False


INVALID: Final = Kind("invalid", HTTPStatus.BAD_REQUEST, "The request makes no sense")
CLOSED: Final = Kind("closed", HTTPStatus.FORBIDDEN, "The configuration does not allow this")
DENIED: Final = Kind("denied", HTTPStatus.FORBIDDEN, "The rights of this client do not allow this")
NO_VALUE: Final = Kind("no-value", HTTPStatus.NOT_FOUND, "The key has no value")
NO_PAGE: Final = Kind("no-page", HTTPStatus.NOT_FOUND, "There is no such page")
NO_METHOD: Final = Kind("no-method", HTTPStatus.METHOD_NOT_ALLOWED, "This page has no such method")
SLOW: Final = Kind("slow", HTTPStatus.REQUEST_TIMEOUT, "The request came too slowly")
FAILED: Final = Kind("failed", HTTPStatus.CONFLICT, "The command changed nothing")
NO_BACKUP: Final = Kind("no-backup", HTTPStatus.CONFLICT, "No backup can be made")
COMPACTED: Final = Kind("compacted", HTTPStatus.GONE, "What has changed since is not kept here")
COMPARED: Final = Kind("compared", HTTPStatus.PRECONDITION_FAILED, "The value is not the expected one")
LARGE: Final = Kind("large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large")
NO_JSON: Final = Kind("no-json", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON")
BROKEN: Final = Kind("broken", HTTPStatus.INTERNAL_SERVER_ERROR, "The replica failed to answer")
UNTOLD: Final = Kind("untold", HTTPStatus.INTERNAL_SERVER_ERROR, "The command executed; its result is lost")
BUSY: Final = Kind("busy", HTTPStatus.SERVICE_UNAVAILABLE, "There is no room for this now", again=True)
FULL: Final = Kind("full", HTTPStatus.INSUFFICIENT_STORAGE, "There is no room for more data", again=True)
NO_ANSWER: Final = Kind("no-answer", HTTPStatus.GATEWAY_TIMEOUT, "No replica answered in time", again=True)

KINDS: Final = (
    INVALID,
    CLOSED,
    DENIED,
    NO_VALUE,
    NO_PAGE,
    NO_METHOD,
    SLOW,
    FAILED,
    NO_BACKUP,
    COMPACTED,
    COMPARED,
    LARGE,
    NO_JSON,
    BROKEN,
    UNTOLD,
    BUSY,
    FULL,
    NO_ANSWER,
)


class Problem(Exception):
    """What is answered instead of a result.

    `may_have_executed` says whether the command may have taken effect, or may still do so; `more` are further members.
    """

    def __init__(self, kind: Kind, detail: str, *, may_have_executed: bool = False, **more: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.told = {"detail": detail, "may_have_executed": may_have_executed} | more

    def response(self) -> Response:
        """The answer; after a request of which not all was read, nothing more is taken over the connection."""
        kind = self.kind
        told = {"type": _TAG + kind.name, "title": kind.title, "status": kind.status, **self.told}
        headers = {"Cache-Control": "no-store"}
        if kind.again:
            headers["Retry-After"] = "1"
        if kind in {LARGE, SLOW, BUSY}:
            headers["Connection"] = "close"
        return Response(json.dumps(told) + "\n", kind.status, headers, MEDIA_TYPE)


def of_error(error: ClientError) -> Problem:
    """What a client's error is over HTTP."""
    may = error.may_have_executed
    if isinstance(error, Refused):
        return Problem(INVALID, str(error), may_have_executed=may)
    if isinstance(error, Busy):
        return Problem(FULL if isinstance(error, Full) else BUSY, str(error), may_have_executed=may)
    if isinstance(error, MultiAborted):
        kind = COMPARED if error.outcome == Outcome.COMPARE_FAILED else FAILED
        reason = Outcome(error.outcome).name.lower()
        return Problem(kind, str(error), may_have_executed=may, operation=error.part, reason=reason)
    if isinstance(error, OperationFailed):
        more = {"locked": True} if isinstance(error, Locked) else {}
        return Problem(FAILED, str(error), may_have_executed=may, **more)
    return Problem(UNTOLD if isinstance(error, Untold) else NO_ANSWER, str(error), may_have_executed=may)
