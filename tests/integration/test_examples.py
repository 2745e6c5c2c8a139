"""The programs of docs/python.md: those that its blocks do not run, and what type checkers say of all of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
import service
from mypy import api

import reference
from live_cluster import ROOT, ClusterMaker


def test_the_blocks_of_the_tutorial_pass_strict_types(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) > 8
    for number, block in enumerate(blocks):
        (tmp_path / f"block_{number}.py").write_text(block)
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    printed, errors, status = api.run([*options, *map(str, sorted(tmp_path.iterdir()))])
    assert status == 0, printed + errors


def test_a_web_service_carries_its_replica(cluster: ClusterMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = cluster(3, start=False).start("alpha", "bravo").wait_until_ready()
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
    assert reference.main(["--to", str(tmp_path)]) == 0
    assert "LocalCluster" in (tmp_path / "epaxos" / "testing.html").read_text()
    page = (tmp_path / "epaxos.html").read_text()
    assert all(
        f'id="{name}"' in page
        for name in ("Client", "AsyncClient", "GroupClient", "Node", "Machine", "Codec")
    )
