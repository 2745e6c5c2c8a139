"""The programs of docs/python.md: those that its blocks do not run, and what type checkers say of all of them."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from epaxos import CasResult
from live_cluster import ROOT, ClusterMaker


def test_the_blocks_of_the_tutorial_pass_strict_types(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE
    )
    from mypy import api  # noqa: PLC0415 - every process would pay for it, and one uses it

    assert len(blocks) > 8
    for number, block in enumerate(blocks):
        (tmp_path / f"block_{number}.py").write_text(block)
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    limit = sys.getrecursionlimit()
    try:
        printed, errors, status = api.run([*options, *map(str, sorted(tmp_path.iterdir()))])
    finally:
        sys.setrecursionlimit(limit)  # mypy asks for more, and leaves it
    assert status == 0, printed + errors


def test_the_recipe_of_a_configuration_store_stops_where_bytes_are_of_another_codec() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (recipe,) = (block.partition("with Client(")[0] for block in blocks if "def change(" in block)
    names: dict[str, Any] = {}
    exec(recipe, names)
    faster = [CasResult(swapped=False, current={"a": 1, "b": 2}), CasResult(swapped=True, current={"a": 1})]
    client = Mock(get=Mock(return_value={"a": 1}), cas=Mock(side_effect=faster))
    assert names["change"](client, b"key", c=3) == {"a": 1, "b": 2, "c": 3}
    client.cas = Mock(return_value=CasResult(swapped=False, current={"a": 1}))
    with pytest.raises(ValueError, match="b'key' was not written by this codec; put it once"):
        names["change"](client, b"key", c=3)


def test_a_web_service_carries_its_replica(cluster: ClusterMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    import service  # noqa: PLC0415 - as above

    alive = cluster(3, start=False).start("alpha", "bravo")
    monkeypatch.setenv("EPAXOS_CONFIG", str(alive.path))
    monkeypatch.setenv("EPAXOS_REPLICA", "charlie")

    async def ask() -> None:
        over = httpx.ASGITransport(service.app)
        async with (
            service.lifespan(service.app),
            httpx.AsyncClient(transport=over, base_url="http://x") as web,
        ):
            assert (await web.put("/settings/colour", json={"name": "blue"})).status_code == 204
            assert (await web.get("/settings/colour")).json() == {"name": "blue"}
            assert (await web.get("/settings/size")).status_code == 404
            assert [(await web.post("/visits")).json()["visits"] for _ in range(3)] == [1, 2, 3]
            async with alive.async_client("alpha") as client:
                assert await client.get(b"colour") == b'{"name":"blue"}'
                await client.put(b"visits", b"many")
            failed = await web.post("/visits")
            assert (failed.status_code, failed.json()["may_have_executed"]) == (503, False)

    asyncio.run(ask())


def test_the_reference_has_a_page_of_each_public_module(tmp_path: Path) -> None:
    import reference  # noqa: PLC0415 - as above

    assert reference.main(["--to", str(tmp_path)]) == 0
    assert "LocalCluster" in (tmp_path / "epaxos" / "testing.html").read_text()
    page = (tmp_path / "epaxos.html").read_text()
    assert all(
        f'id="{name}"' in page
        for name in ("Client", "AsyncClient", "GroupClient", "Node", "Machine", "Codec")
    )
