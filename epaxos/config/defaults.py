"""The replicas of a cluster that nobody has described yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

REPLICA_NAMES: Final = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india"),
    *("juliett", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo"),
    *("sierra", "tango", "uniform", "victor", "whiskey", "xray", "yankee", "zulu"),
)
FIRST_PORTS: Final = {"port": 3264, "client_port": 4264, "metrics_port": 9264}
LOCALHOST: Final = "127.0.0.1"


def default_replicas(count: int = 3, hosts: Sequence[str] = (LOCALHOST,)) -> list[dict[str, object]]:
    """The [[replicas]] tables of `count` replicas, at most one for each of `REPLICA_NAMES`.

    They take turns with `hosts`. The first replica of a host has the ports `FIRST_PORTS`, each further one
    the next.
    """
    replicas: list[dict[str, object]] = []
    for pid, name in enumerate(REPLICA_NAMES[:count]):
        host = hosts[pid % len(hosts)]
        neighbours = sum(replica["host"] == host for replica in replicas)
        ports = {key: port + neighbours for key, port in FIRST_PORTS.items()}
        replicas.append({"pid": pid, "name": name, "host": host, **ports})
    return replicas
