from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from live_cluster import ClusterMaker, clusters


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterMaker]:
    """A function that makes clusters of real replicas: see `live_cluster`."""
    yield from clusters(tmp_path)
