"""`epaxos status`, against a client that answers as it is told."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable
from typing import Any, Self

import pytest
from click.testing import Result
from rich.console import Console

from epaxos.cli import status
from epaxos.cli.survey import Survey
from epaxos.config import Config
from epaxos.errors import ClientError, NoAnswer, Refused

Run = Callable[..., Result]


def answer(name: str, **changes: Any) -> dict[str, Any]:
    """What a replica tells of itself."""
    return {
        "name": name,
        "version": "1.2.3",
        "uptime_s": 3723.9,
        "committed": [10, 20, 30],
        "executed": [9, 20, 30],
        "pending": 1,
        "in_flight": 2,
        "keys": 7,
        "fast_path_ratio": 0.98765,
        "peers": {"x": {"online": True}, "y": {"online": False}},
    } | changes


class FakeClient:
    """An `AsyncClient` of a cluster whose replicas answer `answers`."""

    answers: dict[str, dict[str, Any] | ClientError]
    asked: list[tuple[str, bool, float]]

    def __init__(self, *, config: Config) -> None:
        self.together = asyncio.Barrier(config.n)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def status(self, *, replica: str, digest: bool, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
        self.asked.append((replica, digest, timeout))
        await self.together.wait()
        found = self.answers[replica]
        if isinstance(found, ClientError):
            raise found
        return found | ({"digest": "d1"} if digest else {})


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    answers = {name: answer(name) for name in ("alpha", "bravo", "charlie")}
    monkeypatch.setattr(FakeClient, "answers", answers, raising=False)
    monkeypatch.setattr(FakeClient, "asked", [], raising=False)
    monkeypatch.setattr(status, "AsyncClient", FakeClient)
    return FakeClient


def rows(result: Result) -> dict[str, list[str]]:
    """The cells of the table by the first of each row; columns are two spaces or more apart."""
    lines = [line for line in result.stdout.splitlines()[1:] if line.strip(" ─")]
    cells = [re.split(r" {2,}", line.strip()) for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_table(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["bravo"] = answer("bravo", fast_path_ratio=None, uptime_s=3599.9, committed=[-1, 0, -1])
    result = run("status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Cluster local: 3 of 3 replicas reachable")
    assert rows(result) == {
        "fast": [],
        "replica": ["state", "version", "uptime", "committed", "executed", "pending", "path", "peers"],
        "alpha": ["up", "1.2.3", "1h2m", "10 20 30", "9 20 30", "1", "98.8%", "1/2"],
        "bravo": ["up", "1.2.3", "59m59s", "- 0 -", "9 20 30", "1", "-", "1/2"],
        "charlie": ["up", "1.2.3", "1h2m", "10 20 30", "9 20 30", "1", "98.8%", "1/2"],
    }


def test_the_table_fits_a_terminal(fake: type[FakeClient]) -> None:
    frontier = [1_234_567] * 5
    replica = answer("charlie", committed=frontier, executed=frontier, uptime_s=359_999)
    console = Console(width=80, record=True, file=io.StringIO())
    found = Survey("local", [replica | {"reachable": True}, {"name": "delta", "reachable": False}])
    console.print(status.table(found))
    shown = console.export_text()
    assert "…" not in shown
    assert shown.count("1234567") == 10
    assert "98.8%" in shown
    assert fake.asked == []


def test_all_are_asked_at_the_same_time(run: Run, fake: type[FakeClient]) -> None:
    assert run("status", "--timeout", "300ms").exit_code == 0
    assert sorted(fake.asked) == [(name, False, 0.3) for name in ("alpha", "bravo", "charlie")]


def test_the_timeout_of_the_configuration(run: Run, fake: type[FakeClient]) -> None:
    assert run("status").exit_code == 0
    assert {timeout for _, _, timeout in fake.asked} == {2.0}


def test_some_do_not_answer(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["charlie"] = NoAnswer("charlie could not be reached within 2 s")
    result = run("status")
    assert result.exit_code == 1
    assert result.stdout.startswith("Cluster local: 2 of 3 replicas reachable")
    assert rows(result)["charlie"] == ["silent"]
    assert result.stderr == "epaxos status: charlie could not be reached within 2 s\n"


def test_none_answers(run: Run, fake: type[FakeClient]) -> None:
    fake.answers = {name: Refused(f"{name} is of another cluster") for name in fake.answers}
    result = run("status")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 3


def test_a_replica_at_the_address_of_another(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["alpha"] = answer("bravo")
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr == "epaxos status: tcp://127.0.0.1:4264 is bravo, not alpha\n"


def test_json(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["bravo"] = NoAnswer("no answer from bravo within 2 s")
    result = run("status", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "cluster": "local",
        "replicas": [
            {"reachable": True, **answer("alpha"), "digest": "d1"},
            {"name": "bravo", "reachable": False, "error": "no answer from bravo within 2 s"},
            {"reachable": True, **answer("charlie"), "digest": "d1"},
        ],
    }


def interrupt_after(fake: type[FakeClient], surveys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once so many surveys have been made."""
    ask = fake.status

    async def counting(self: FakeClient, **options: Any) -> dict[str, Any]:
        if len(self.asked) == 3 * surveys:
            raise KeyboardInterrupt
        return await ask(self, **options)

    monkeypatch.setattr(fake, "status", counting)


def test_watch_json_is_a_line_each_time(
    run: Run, fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(fake, 3, monkeypatch)
    result = run("status", "--watch", "0.1", "--json")
    assert result.exit_code == 130
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(json.loads(line)["cluster"] == "local" for line in lines)


def test_watch_elsewhere_than_on_a_terminal(
    run: Run, fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(fake, 2, monkeypatch)
    result = run("status", "--watch", "0.1")
    assert result.exit_code == 130
    assert result.stdout.count("3 of 3 replicas reachable") == 2


def test_watch_on_a_terminal_draws_over_the_table_before(
    run: Run, fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    interrupt_after(fake, 2, monkeypatch)
    result = run("status", "--watch", "0.1")
    assert result.exit_code == 130
    assert "\x1b[1A" in result.stdout, "the cursor goes up"
    assert result.stdout.rstrip("\n").endswith("\x1b[?25h"), "and is shown in the end"


@pytest.mark.parametrize("interval", ["0", "often"])
def test_watch_how_often(run: Run, interval: str) -> None:
    result = run("status", "--watch", interval)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--watch" in result.stderr
