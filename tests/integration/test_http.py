"""The API over HTTP of real replicas: what clients of other languages do, and what strangers try."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from epaxos.backup.file import BackupFile
from epaxos.checkpoint.rows import VALUE
from epaxos.testing import LocalCluster
from shared.browser import Browser, find_browser


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three replicas on disk. The last tests here kill some."""
    settings: dict[str, Any] = {
        "http": {"api": "write"},
        "max_value": 100_000,
        "timeout": "400ms",
        "beacon": "50ms",
        "storage": {"engine": "sqlite", "checkpoint": "100ms"},
    }
    with LocalCluster(durable=True, directory=tmp_path_factory.mktemp("http"), **settings) as made:
        yield made


def base(cluster: LocalCluster, name: str) -> str:
    return f"http://127.0.0.1:{cluster.config.replica(name).metrics_port}"


def client(cluster: LocalCluster, name: str = "alpha") -> httpx.Client:
    return httpx.Client(base_url=base(cluster, name), timeout=10)


def counted(asked: httpx.Client, metric: str) -> float:
    lines = asked.get("/metrics", params={"name[]": f"{metric}_total"}).text.splitlines()
    return float(lines[-1].split()[-1])


def test_what_one_replica_is_told_another_one_answers(cluster: LocalCluster) -> None:
    with client(cluster) as alpha, client(cluster, "bravo") as bravo:
        key = "/v1/kv/a%20key%ff/with%2Fslashes%0Aand%20lines"
        assert alpha.get(key).status_code == 404
        value = bytes(range(256))
        assert alpha.put(key, content=value).status_code == 204
        assert bravo.get(key).content == value
        assert bravo.put(f"{key}?absent=true", content=b"new").status_code == 412
        assert bravo.delete(key).json() == {"deleted": True}
        assert alpha.head(key).status_code == 404
        assert alpha.put("/v1/kv/short?ttl=0.1", content=b"value").status_code == 204
        while bravo.get("/v1/kv/short").status_code != 404:
            pass
        assert alpha.get("/v1/status").json()["reasons"] == []
        assert all(member["heard"] for member in bravo.get("/v1/members").json()["members"])


def place_of(stream: httpx.Response, wanted: str) -> str:
    """The position after the event with this line of data, once it has come."""
    place = ""
    for line in stream.iter_lines():
        place = line.removeprefix("id: ") if line.startswith("id: ") else place
        if line == f"data: {wanted}":
            return place
    raise AssertionError(f"the events have ended before {wanted}")


def test_what_changes_comes_as_events_and_goes_on_elsewhere(cluster: LocalCluster) -> None:
    with client(cluster) as alpha, client(cluster, "bravo") as bravo:
        assert alpha.put("/v1/kv/seen%2F1", content=b"1").status_code == 204
        with bravo.stream("GET", "/v1/watch", params={"prefix": "seen/", "state": "true"}) as stream:
            place_of(stream, '{"key": "seen/1", "value": "1"}')
        with bravo.stream("GET", "/v1/watch", params={"prefix": "seen/"}) as stream:
            alpha.delete("/v1/kv/seen%2F1")
            place = place_of(stream, '{"key": "seen/1", "value": null}')
        assert alpha.put("/v1/kv/seen%2F2", content=b"2").status_code == 204
        headers = {"Last-Event-ID": place}
        with bravo.stream("GET", "/v1/watch", params={"prefix": "seen/"}, headers=headers) as stream:
            place_of(stream, '{"key": "seen/2", "value": "2"}')
        gone = alpha.get("/v1/watch", params={"since": f"0:0,0,0@{place.partition('@')[2]}"})
        assert (gone.status_code, gone.json()["type"]) == (410, "tag:epaxos,2026:compacted")
        assert alpha.get("/v1/watch?since=yesterday").status_code == 400


def test_keys_are_listed_by_pages(cluster: LocalCluster) -> None:
    with client(cluster) as alpha, client(cluster, "bravo") as bravo:
        for number in range(5):
            alpha.put(f"/v1/kv/list%2F{number}", content=b"%d" % number)
        found: list[Any] = []
        asked: dict[str, Any] = {"prefix": "list/", "limit": 2}
        while True:
            page = bravo.get("/v1/scan", params=asked).json()
            found += page["entries"]
            if not page["more"]:
                break
            asked["after"] = page["after"]
        assert found == [{"key": f"list/{number}", "value": str(number)} for number in range(5)]
        assert alpha.get("/v1/count?prefix=list/").json() == {"count": 5}
        assert alpha.delete("/v1/scan?prefix=list/").json() == {"removed": 5, "more": False, "after": None}
        assert bravo.get("/v1/count?prefix=list/").json() == {"count": 0}


def test_requests_that_come_together_are_few_instances(cluster: LocalCluster) -> None:
    async def caller(name: int, requests: int) -> None:
        port = cluster.config.replica("alpha").metrics_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(requests):
            head = f"PUT /v1/kv/{name}-{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
            writer.write(head.encode() + b"value")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        writer.close()

    async def load() -> None:
        await asyncio.gather(*(caller(name, 5) for name in range(100)))

    with client(cluster) as alpha:
        before = counted(alpha, "epaxos_proposals"), counted(alpha, "epaxos_instances_proposed")
        asyncio.run(load())
        after = counted(alpha, "epaxos_proposals"), counted(alpha, "epaxos_instances_proposed")
    assert after[0] - before[0] >= 500
    assert after[1] - before[1] < 250, "commands share instances"


def test_an_idempotency_key_makes_a_retry_execute_once(cluster: LocalCluster) -> None:
    async def load() -> list[Any]:
        async with httpx.AsyncClient(timeout=10) as asked:
            calls = [
                asked.post(
                    f"{base(cluster, name)}/v1/kv/once",
                    json={"op": "increment"},
                    headers={"Idempotency-Key": "first"},
                )
                for name in cluster.names * 5
            ]
            return [response.json() for response in await asyncio.gather(*calls)]

    assert asyncio.run(load()) == [{"result": 1}] * 15
    with client(cluster, "bravo") as bravo:
        for key, result in (("second", 2), ("second", 2), ("first", 1)):
            answer = bravo.post(
                "/v1/kv/once", json={"op": "increment"}, headers={"Idempotency-Key": key}
            ).json()
            assert answer == {"result": result}
        other = bravo.post(
            "/v1/kv/once", json={"op": "increment", "amount": 5}, headers={"Idempotency-Key": "first"}
        )
        assert other.json() == {"result": 7}, "another command under the same key is another command"


def test_a_backup_is_a_stream(cluster: LocalCluster, tmp_path: Path) -> None:
    with client(cluster) as alpha:
        assert alpha.put("/v1/kv/saved", content=b"value").status_code == 204
        with alpha.stream("GET", "/v1/backup") as answer:
            assert answer.status_code == 200
            saved = b"".join(answer.iter_bytes())
    (tmp_path / "file").write_bytes(saved)
    with BackupFile(tmp_path / "file") as file:
        assert (VALUE + b"saved", b"value") in list(file.rows())


HOSTILE = [
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nxxx",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"POST /v1/multi HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n"
    + b"[" * 90_000,
    b"GET /v1/kv/" + b"%00" * 30_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/kv/a?" + b"&" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/kv/a HTTP/1.1\r\nHost: [\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://other/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000,
    b"DELETE /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: \xff\xfe\r\n\r\n",
]


def test_no_request_hurts_a_replica(cluster: LocalCluster) -> None:
    port = cluster.config.replica("alpha").metrics_port
    for raw in HOSTILE:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger, suppress(ConnectionError):
            stranger.sendall(raw)
            stranger.recv(10_000)
    with client(cluster) as alpha:
        large = alpha.put("/v1/kv/a", content=b"x" * 100_001)
        assert (large.status_code, large.json()["may_have_executed"]) == (413, False)
        assert alpha.put("/v1/kv/a", content=b"x" * 100_000).status_code == 204
        long = alpha.put("/v1/kv/" + "k" * 65_000, content=b"x")  # a line of a request has 64 KiB at most
        assert long.status_code in {204, 400}
        assert alpha.get("/livez").text == "ok\n"


def test_a_retry_executes_once_though_the_replica_that_was_asked_first_was_killed(
    cluster: LocalCluster,
) -> None:
    def increment(asked: httpx.Client) -> Any:
        headers = {"Idempotency-Key": "third"}
        return asked.post("/v1/kv/once", json={"op": "increment"}, headers=headers).json()

    with client(cluster, "charlie") as charlie:
        first = increment(charlie)
    cluster.kill("charlie")
    with client(cluster) as alpha:
        assert increment(alpha) == first
    cluster.start("charlie")
    cluster.wait_until_ready()
    with client(cluster, "charlie") as charlie:
        assert increment(charlie) == first


def test_a_page_of_a_stranger_that_takes_on_the_address_of_a_replica_does_nothing(
    cluster: LocalCluster,
) -> None:
    with client(cluster) as alpha:
        assert alpha.put("/v1/kv/stays", content=b"value").status_code == 204
        stranger = {"Host": "evil.example"}
        for method, page in (("DELETE", "/v1/scan?prefix="), ("GET", "/v1/kv/stays"), ("GET", "/metrics")):
            assert alpha.request(method, page, headers=stranger).status_code == 421
        assert alpha.get("/v1/kv/stays").content == b"value"
        assert alpha.get("/readyz", headers=stranger).status_code == 200


def leave_alone(cluster: LocalCluster, alpha: httpx.Client) -> httpx.Response:
    """Kill the others while alpha does not know it yet, and ask it for something."""
    for name in {"bravo", "charlie"} & set(cluster.running):
        cluster.kill(name)
    return alpha.put("/v1/kv/a?timeout=0.3", content=b"value")


def test_without_a_quorum_it_says_whether_the_command_may_have_executed(cluster: LocalCluster) -> None:
    with client(cluster) as alpha:
        told = leave_alone(cluster, alpha)
        assert (told.status_code, told.json()["may_have_executed"]) == (504, True)
        assert told.headers["content-type"] == "application/problem+json"
        while alpha.get("/readyz").status_code != 503:
            pass
        assert alpha.get("/livez").status_code == 200


def test_the_page_shows_in_a_browser_what_is_wrong_and_when_it_is_well_again(cluster: LocalCluster) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    headline = "document.getElementById('headline').textContent"
    with Browser(program) as browser, client(cluster) as alpha:
        leave_alone(cluster, alpha)
        browser.look_like(390, 844, phone=True)
        browser.open(f"{base(cluster, 'alpha')}/")
        browser.wait_for(f"{headline} === 'This replica does not serve'")
        assert "no quorum" in browser.evaluate("document.getElementById('reasons').textContent")
        assert browser.evaluate("document.title").startswith("\u00d7 alpha")
        assert browser.evaluate("document.querySelectorAll('.member.down').length") == 2
        browser.wait_for("document.querySelector('#waiting div')?.shadowRoot.querySelector('.preaccepted')")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390, "it fits on a phone"
        cluster.start("bravo")
        browser.wait_for(f"{headline} === 'It serves, with 2 of 3 replicas'")
        cluster.start("charlie")
        browser.wait_for(f"{headline} === 'All is well'")
        browser.wait_for("document.getElementById('waiting').textContent.startsWith('Nothing waits')")
        assert browser.evaluate("document.querySelectorAll('figure path.line').length") > 0
        assert not browser.evaluate("document.querySelector('path.line ~ path.area') !== null")
        assert "charlie is heard" in browser.evaluate("document.getElementById('changes').textContent")
        colours = []
        for dark in (False, True):
            browser.look_like(1180, 800, dark=dark)
            colours.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert colours[0] != colours[1], "it has a night"
        assert browser.picture().startswith(b"\x89PNG")
        cluster.kill("alpha")
        browser.wait_for(f"{headline} === 'No connection to this replica'")
        assert [error for error in browser.errors if "ERR_" not in error] == []
