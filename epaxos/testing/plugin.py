"""The pytest plugin: the fixture `epaxos_cluster`, a real cluster for a test; nothing unless a test asks for it.

    def test_it(epaxos_cluster):
        with epaxos_cluster.client() as client:
            client.put(b"key", b"value")

    @pytest.mark.epaxos_cluster(replicas=5, durable=True)
    def test_with_another_one(epaxos_cluster): ...

The arguments of the mark are those of `LocalCluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from epaxos.testing.cluster import LocalCluster


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        "epaxos_cluster(replicas=3, durable=False, **settings): what the fixture epaxos_cluster starts",
    )


@pytest.fixture
def epaxos_cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster of real replicas, fresh for each test; see `epaxos.testing.LocalCluster`."""
    from epaxos.testing.cluster import LocalCluster  # noqa: PLC0415 - only who asks for it pays

    mark = request.node.get_closest_marker("epaxos_cluster")
    with LocalCluster(*(mark.args if mark else ()), **(mark.kwargs if mark else {})) as cluster:
        yield cluster
