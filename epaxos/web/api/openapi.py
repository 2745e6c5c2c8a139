"""The API in the terms of OpenAPI 3.1, made of what the code has: commands, problems, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from epaxos.client.reading import READS
from epaxos.statemachine.operations import PAGE_KEYS
from epaxos.version import __version__
from epaxos.web.api.problems import (
    BROKEN,
    BUSY,
    CLOSED,
    COMPACTED,
    COMPARED,
    DENIED,
    FAILED,
    FULL,
    INVALID,
    KINDS,
    LARGE,
    MEDIA_TYPE,
    NO_ANSWER,
    NO_BACKUP,
    NO_JSON,
    NO_VALUE,
    SLOW,
    UNTOLD,
    Kind,
)
from epaxos.web.api.values import FORMS

Schema: TypeAlias = dict[str, Any]

_JSON: Final = "application/json"
_RAW: Final = "application/octet-stream"
_EVENTS: Final = "text/event-stream"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Final[Schema] = {"type": "string"}
_SWITCH: Final[Schema] = {"type": "boolean"}
_NUMBER: Final[Schema] = {"type": "integer"}
_SECONDS: Final[Schema] = {"type": "number", "exclusiveMinimum": 0}
_BYTES: Final = _ref("Bytes")
_OR_NULL: Final[Schema] = {"anyOf": [_BYTES, {"type": "null"}]}

_FIELDS: Final[Mapping[str, Schema]] = {
    "key": _BYTES,
    "value": _BYTES,
    "expected": _OR_NULL,
    "new": _OR_NULL,
    "ttl": _SECONDS,
    "keep_ttl": _SWITCH,
    "amount": {"type": "integer", "default": 1},
}


def _object(needs: Mapping[str, Schema], may: Mapping[str, Schema] | None = None, **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": {**needs, **(may or {})},
        "required": list(needs),
        **more,
    }


def _commands(*, with_key: bool) -> Schema:
    """All commands in JSON; without their keys, where the path has it."""
    kinds = []
    for name, form in FORMS.items():
        needs = form.needs if with_key else form.needs[1:]
        fields = {"op": {"const": name}} | {field: _FIELDS[field] for field in needs}
        may = {field: _FIELDS[field] for field in form.may}
        kinds.append(_object(fields, may, description=form.does, additionalProperties=False))
    return {"oneOf": kinds}


def _schemas() -> Schema:
    types = [f"tag:epaxos,2026:{kind.name}" for kind in KINDS]
    told = {
        "type": {"type": "string", "enum": types},
        "title": _TEXT,
        "status": _NUMBER,
        "detail": {"type": "string", "description": "What was found, where, and what is allowed."},
        "may_have_executed": {
            "type": "boolean",
            "description": "Whether the command may have taken effect, or may still do so.",
        },
    }
    more = {
        "current": _OR_NULL | {"description": "The value that was found, where one was compared with."},
        "operation": {"type": "integer", "description": "The place of the operation of a multi that failed."},
        "reason": {"type": "string", "description": "How it failed."},
        "locked": {"type": "boolean", "description": "The key is locked by a transaction across groups."},
    }
    member: dict[str, Schema] = {
        "name": _TEXT,
        "id": {
            "type": "string",
            "description": "Its name; of one that has joined, that with its incarnation.",
        },
        "row": _NUMBER,
        "host": {"type": ["string", "null"]},
        **{key: {"type": ["integer", "null"]} for key in ("port", "client_port", "metrics_port")},
        "self": _SWITCH,
        "heard": {"type": "boolean", "description": "Whether this replica hears it; it hears itself."},
    }
    return {
        "Bytes": {
            "description": "Bytes: a string where they are text in UTF-8, else in base 64.",
            "oneOf": [_TEXT, _object({"base64": {"type": "string", "contentEncoding": "base64"}})],
        },
        "Command": _commands(with_key=True),
        "CommandOfKey": _commands(with_key=False),
        "Result": {
            "description": "What the command returns: bytes, a number, true or false, or null.",
            "anyOf": [
                _OR_NULL,
                _SWITCH,
                _NUMBER,
                _object({"swapped": _SWITCH, "current": _OR_NULL}),
            ],
        },
        "Problem": _object(told, more, description="Problem details (RFC 9457)."),
        "Status": _object(
            {"name": _TEXT, "reasons": {"type": "array", "items": _TEXT}},
            description="What `epaxos status --json` shows of one replica.",
        ),
        "Members": _object(
            {
                "cluster": _TEXT,
                "protocol": _TEXT,
                "epoch": _NUMBER,
                "f": _NUMBER,
                "e": _NUMBER,
                "quorum": _NUMBER,
                "members": {"type": "array", "items": _object(member)},
            }
        ),
    }


def _query(name: str, schema: Schema, says: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": says}


_TIMEOUT: Final = _query(
    "timeout",
    _SECONDS,
    "How long it may take, in seconds, if not `client.timeout`; `client.tries` times as long at most.",
)
_READS: Final = _query(
    "reads",
    {"enum": list(READS), "default": "log"},
    "How it is read: as every command is; by a quorum, as good; as things stand at this replica; or so at an observer, "
    "which tells in `Epaxos-Age` how many seconds old that is at most.",
)
_READS_OF_ALL: Final = _query(
    "reads", {"enum": ["log", "local"], "default": "log"}, "How it is read; a quorum tells of one key alone."
)
_CAS: Final = _query("cas", _TEXT, "Only if the value is this one: any bytes, percent-encoded.")
_ONCE: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same command under the same key executes once, within ten times `collect`.",
}
_KEY: Final[Schema] = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": _TEXT,
    "description": "The key: any bytes, percent-encoded; a slash may stand there as it is.",
}


def _content(media_type: str, schema: Schema) -> Schema:
    return {media_type: {"schema": schema}}


def _done(says: str, content: Schema | None = None) -> Schema:
    return {"description": says} | ({} if content is None else {"content": content})


def _operation(
    name: str, says: str, done: tuple[int, Schema], problems: tuple[Kind, ...], **more: Any
) -> Schema:
    """An operation of the document; its problems are told by status."""
    by_status: dict[str, list[str]] = {}
    for kind in (INVALID, *problems, BUSY, NO_ANSWER, BROKEN):
        by_status.setdefault(str(int(kind.status)), []).append(f"{kind.title} (`{kind.name}`).")
    answers = {
        status: _done(" ".join(titles), _content(MEDIA_TYPE, _ref("Problem")))
        for status, titles in by_status.items()
    }
    return {
        "operationId": name,
        "summary": says,
        **more,
        "responses": {str(done[0]): done[1], **answers},
    }


def document() -> Schema:
    """All of it."""
    with_body = (CLOSED, DENIED, LARGE, SLOW, FAILED, COMPARED, UNTOLD, FULL)
    kv = {
        "parameters": [_KEY],
        "get": _operation(
            "get",
            "Read the value of a key.",
            (
                200,
                _done(
                    "The value as it is, or in JSON where `Accept` says application/json. Read locally, the header "
                    "`Epaxos-Behind` tells how many instances the replica has heard of and not executed; `unknown` if "
                    "it hears no quorum.",
                    _content(_RAW, {}) | _content(_JSON, _object({"key": _BYTES, "value": _BYTES})),
                ),
            ),
            (CLOSED, DENIED, NO_VALUE),
            parameters=[_READS, _TIMEOUT],
        ),
        "head": _operation(
            "exists",
            "Read whether a key has a value.",
            (200, _done("It has.")),
            (CLOSED, DENIED, NO_VALUE),
            parameters=[_READS, _TIMEOUT],
        ),
        "put": _operation(
            "put",
            "Set the value of a key to the body, whatever that is.",
            (204, _done("Done.")),
            with_body,
            parameters=[
                _CAS,
                _query("absent", _SWITCH, "Only if there is no value."),
                _query("ttl", _SECONDS, "The value ends after so many seconds."),
                _query("keep_ttl", _SWITCH, "It ends when the one before would have."),
                _TIMEOUT,
                _ONCE,
            ],
            requestBody={"required": True, "content": _content("*/*", {})},
        ),
        "delete": _operation(
            "delete",
            "Remove a key.",
            (200, _done("Whether there was one.", _content(_JSON, _object({"deleted": _SWITCH})))),
            (CLOSED, DENIED, FAILED, COMPARED, UNTOLD),
            parameters=[_CAS, _TIMEOUT, _ONCE],
        ),
        "post": _operation(
            "command",
            "Any command of a key, in JSON.",
            (200, _done("Its result.", _content(_JSON, _object({"result": _ref("Result")})))),
            (*with_body, NO_JSON),
            parameters=[_TIMEOUT, _ONCE],
            requestBody={"required": True, "content": _content(_JSON, _ref("CommandOfKey"))},
        ),
    }
    commands = {"type": "array", "minItems": 1, "items": _ref("Command")}
    results = {"type": "array", "items": _ref("Result")}
    multi = _operation(
        "multi",
        "Execute commands on any keys as one, all or nothing.",
        (200, _done("Their results, in order.", _content(_JSON, _object({"results": results})))),
        (*with_body, NO_JSON),
        parameters=[_TIMEOUT, _ONCE],
        requestBody={"required": True, "content": _content(_JSON, _object({"operations": commands}))},
    )
    prefix = _query("prefix", _TEXT, "With what the keys begin: any bytes, percent-encoded.")
    after = _query("after", _TEXT, "They come after this key.")
    limit = _query(
        "limit", {"type": "integer", "minimum": 1, "maximum": PAGE_KEYS, "default": 1000}, "So many at most."
    )
    more = {"more": _SWITCH, "after": _OR_NULL}
    entry = _object({"key": _BYTES}, {"value": _BYTES})
    scan = {
        "get": _operation(
            "scan",
            "List keys by prefix, in the order of their bytes, by pages.",
            (
                200,
                _done(
                    "A page of one moment; `after` is for the next one.",
                    _content(_JSON, _object({"entries": {"type": "array", "items": entry}, **more})),
                ),
            ),
            (CLOSED, DENIED),
            parameters=[
                prefix,
                after,
                limit,
                _query("values", {"type": "boolean", "default": True}, "With the values."),
                _query("reverse", _SWITCH, "From the last to the first."),
                _READS_OF_ALL,
                _TIMEOUT,
            ],
        ),
        "delete": _operation(
            "clear",
            "Remove keys by prefix, by pages.",
            (200, _done("How many were removed.", _content(_JSON, _object({"removed": _NUMBER, **more})))),
            (CLOSED, DENIED, FAILED, UNTOLD),
            parameters=[prefix | {"required": True}, after, limit, _TIMEOUT, _ONCE],
        ),
    }
    count = _operation(
        "count",
        "How many keys begin with a prefix.",
        (200, _done("So many.", _content(_JSON, _object({"count": _NUMBER})))),
        (CLOSED, DENIED),
        parameters=[prefix, _READS_OF_ALL, _TIMEOUT],
    )
    status = _operation(
        "status",
        "What this replica tells of itself.",
        (200, _done("Its status.", _content(_JSON, _ref("Status")))),
        (CLOSED, DENIED),
        parameters=[_query("digest", _SWITCH, "Tell a digest of its state too.")],
    )
    members = _operation(
        "members",
        "Which replicas there are, and whom this one hears.",
        (200, _done("They.", _content(_JSON, _ref("Members")))),
        (),
    )
    backup = _operation(
        "backup",
        "All that this replica holds, for `epaxos restore`.",
        (200, _done("A backup; if the connection breaks off, it is none.", _content(_RAW, {}))),
        (CLOSED, DENIED, NO_BACKUP),
        parameters=[_query("at_once", _SWITCH, "The last checkpoint as it is, without waiting.")],
    )
    watch = _operation(
        "watch",
        "What changes under keys that begin with a prefix, as server-sent events, until somebody ends it.",
        (
            200,
            _done("Events: change, reset, synced, compacted; each id is a position.", _content(_EVENTS, {})),
        ),
        (CLOSED, DENIED, COMPACTED),
        parameters=[
            prefix,
            _query("since", _TEXT, "A position, after which to begin; Last-Event-ID comes before it."),
            _query("state", _SWITCH, "What stands under the keys first."),
        ],
    )
    said = _operation("openapi", "This.", (200, _done("This.", _content(_JSON, {"type": "object"}))), ())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "epaxos",
            "version": __version__,
            "description": "A replicated key-value store; any replica may be asked. See docs/http.md.",
        },
        "paths": {
            "/v1/kv/{key}": kv,
            "/v1/multi": {"post": multi},
            "/v1/scan": scan,
            "/v1/count": {"get": count},
            "/v1/watch": {"get": watch},
            "/v1/status": {"get": status},
            "/v1/members": {"get": members},
            "/v1/backup": {"get": backup},
            "/v1/openapi.json": {"get": said},
        },
        "components": {"schemas": _schemas()},
    }
