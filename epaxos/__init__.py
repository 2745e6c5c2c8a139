"""epaxos: a leaderless replicated key-value service over EPaxos*.

    with epaxos.Client("localhost:4264") as client:
        client.put(b"key", b"value")

What clients need is imported when it is first used, so a replica does not pay for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from epaxos.version import __version__

if TYPE_CHECKING:
    from epaxos.client.asynchronous import AsyncClient
    from epaxos.client.blocking import Client
    from epaxos.client.codecs import JSON, MSGPACK, TEXT, Codec
    from epaxos.client.commands import Op, Ops
    from epaxos.client.results import CasResult, MultiAborted, Page, Result
    from epaxos.client.status import Change, Status
    from epaxos.client.tracing import trace_calls
    from epaxos.client.watch import AsyncWatch, Changed, Reset, Synced, Watch
    from epaxos.config import Config, load_config
    from epaxos.errors import (
        Busy,
        ClientError,
        Closed,
        Compacted,
        ConfigError,
        EpaxosError,
        LeaseLost,
        Locked,
        NoAnswer,
        OperationFailed,
        Refused,
        SessionExpired,
        Undecodable,
        Untold,
    )
    from epaxos.groups.asynchronous import AsyncGroupClient
    from epaxos.groups.client import GroupClient
    from epaxos.node import Node, NodeFailed
    from epaxos.statemachine.hosted import Footprint, Machine
    from epaxos.watching.position import Position

_HOMES = {
    "AsyncClient": "epaxos.client.asynchronous",
    "AsyncGroupClient": "epaxos.groups.asynchronous",
    "Change": "epaxos.client.status",
    "Client": "epaxos.client.blocking",
    "CasResult": "epaxos.client.results",
    "MultiAborted": "epaxos.client.results",
    "Op": "epaxos.client.commands",
    "Ops": "epaxos.client.commands",
    "Page": "epaxos.client.results",
    "Codec": "epaxos.client.codecs",
    "JSON": "epaxos.client.codecs",
    "MSGPACK": "epaxos.client.codecs",
    "TEXT": "epaxos.client.codecs",
    "Result": "epaxos.client.results",
    "Status": "epaxos.client.status",
    "trace_calls": "epaxos.client.tracing",
    "Undecodable": "epaxos.errors",
    "Untold": "epaxos.errors",
    **dict.fromkeys(("AsyncWatch", "Changed", "Reset", "Synced", "Watch"), "epaxos.client.watch"),
    "Position": "epaxos.watching.position",
    "Compacted": "epaxos.errors",
    "Config": "epaxos.config",
    "load_config": "epaxos.config",
    "Busy": "epaxos.errors",
    "ClientError": "epaxos.errors",
    "Closed": "epaxos.errors",
    "ConfigError": "epaxos.errors",
    "EpaxosError": "epaxos.errors",
    "LeaseLost": "epaxos.errors",
    "Footprint": "epaxos.statemachine.hosted",
    "GroupClient": "epaxos.groups.client",
    "Machine": "epaxos.statemachine.hosted",
    "Node": "epaxos.node",
    "NodeFailed": "epaxos.node",
    "Locked": "epaxos.errors",
    "NoAnswer": "epaxos.errors",
    "OperationFailed": "epaxos.errors",
    "Refused": "epaxos.errors",
    "SessionExpired": "epaxos.errors",
}

__all__ = [
    "JSON",
    "MSGPACK",
    "TEXT",
    "AsyncClient",
    "AsyncGroupClient",
    "AsyncWatch",
    "Busy",
    "CasResult",
    "Change",
    "Changed",
    "Client",
    "ClientError",
    "Closed",
    "Codec",
    "Compacted",
    "Config",
    "ConfigError",
    "EpaxosError",
    "Footprint",
    "GroupClient",
    "LeaseLost",
    "Locked",
    "Machine",
    "MultiAborted",
    "NoAnswer",
    "Node",
    "NodeFailed",
    "Op",
    "OperationFailed",
    "Ops",
    "Page",
    "Position",
    "Refused",
    "Reset",
    "Result",
    "SessionExpired",
    "Status",
    "Synced",
    "Undecodable",
    "Untold",
    "Watch",
    "__version__",
    "load_config",
    "trace_calls",
]


if not TYPE_CHECKING:  # to a type checker it would say that the package has every attribute

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value


def __dir__() -> list[str]:
    return __all__
