"""Real clusters for the tests of programs: `LocalCluster`, and the pytest fixture `epaxos_cluster` (`plugin`).

    with LocalCluster() as cluster, cluster.client() as client:
        client.put(b"key", b"value")

What it needs is imported when it is first used, so that pytest, which loads the plugin, does not pay for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epaxos.testing.cluster import ClusterFailed, LocalCluster, local_nodes

__all__ = ["ClusterFailed", "LocalCluster", "local_nodes"]


if not TYPE_CHECKING:  # to a type checker it would say that the package has every attribute

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module("epaxos.testing.cluster"), name)
        return value
