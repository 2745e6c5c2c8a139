"""`epaxos status`, against a client that answers as it is told."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from click.testing import Result
from rich.console import Console

from epaxos.cli import status
from epaxos.cli.survey import Survey, survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Status
from epaxos.config import Config, load_config
from epaxos.errors import ClientError, NoAnswer, Refused
from epaxos.protocol.membership import joined

Run = Callable[..., Result]


NAMES = ["alpha", "bravo", "charlie"]


def peers_of(name: str, *online: bool) -> dict[str, Any]:
    others = [other for other in NAMES if other != name]
    return {other: {"online": up} for other, up in zip(others, online, strict=False)}


def answer(name: str, **changes: Any) -> dict[str, Any]:
    """What a replica tells of itself."""
    told: dict[str, Any] = {
        "name": name,
        "version": "1.2.3",
        "level": 10,
        "newest_level": 10,
        "uptime_s": 3723.9,
        "committed": [10, 20, 30],
        "executed": [9, 20, 30],
        "pending": 1,
        "in_flight": 2,
        "keys": 7,
        "fast_path_ratio": 0.98765,
        "peers": peers_of(name, True, False),
        "reasons": [],
        "storage_failed": None,
        "checkpoint_refused": None,
        "proposals": 0,
        "latency": {"bounds_s": [0.01, 0.02], "counts": [0, 0, 0], "sum_s": 0.0},
    } | changes
    return {"members": NAMES} | told


class FakeClient:
    """An `AsyncClient` of a cluster whose replicas answer `answers`."""

    answers: dict[str, dict[str, Any] | ClientError]
    asked: list[tuple[str, bool, float]]

    def __init__(self, *, config: Config) -> None:
        self.together = asyncio.Barrier(config.n)
        self.first = config.n

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def status(self, *, replica: str, digest: bool, timeout: float) -> Status:  # noqa: ASYNC109
        self.asked.append((replica, digest, timeout))
        self.first -= 1
        if self.first >= 0:
            await self.together.wait()
        found = self.answers[replica]
        if isinstance(found, ClientError):
            raise found
        return Status.of(found | ({"digest": "d1"} if digest else {}))


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
    fake.answers["bravo"] = answer("bravo", fast_path_ratio=None, uptime_s=3599.9, executed=[9, 19, 17])
    result = run("status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "quorum: 2 of 3, none more may fail (cluster local, 3 of 3 replicas answer)\n"
    )
    assert rows(result) == {
        "fast": [],
        "replica": ["state", "version", "uptime", "behind", "pending", "path", "peers"],
        "alpha": ["up", "1.2.3", "1h2m", "1", "1", "98.8%", "1/2"],
        "bravo": ["up", "1.2.3", "59m59s", "15", "1", "-", "1/2"],
        "charlie": ["up", "1.2.3", "1h2m", "1", "1", "98.8%", "1/2"],
    }


def test_behind_is_what_anybody_has_committed(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["alpha"] = answer("alpha", committed=[5, -1, 8], executed=[5, -1, 8])
    fake.answers["bravo"] = answer("bravo", committed=[3, 2, -1], executed=[3, 1, -1])
    fake.answers["charlie"] = NoAnswer("charlie could not be reached within 2 s")
    result = run("status", "--json")
    behind = {it["name"]: it.get("behind") for it in json.loads(result.stdout)["replicas"]}
    assert behind == {"alpha": 3, "bravo": 2 + 1 + 9, "charlie": None}


def test_the_slots(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["bravo"] = answer("bravo", committed=[-1, 0, -1])
    result = run("status", "--slots")
    assert rows(result)["replica"][3:5] == ["committed", "executed"]
    assert rows(result)["bravo"][3:5] == ["- 0 -", "9 20 30"]


@pytest.mark.parametrize("slots", [False, True])
def test_the_table_fits_a_terminal(*, slots: bool) -> None:
    frontier = [1_234_567] * 5
    replica = answer("charlie", committed=frontier, executed=frontier, uptime_s=359_999) | {
        "reachable": True,
        "behind": 1_234_567,
        "pending": 123_456,
    }
    dead = {"name": "delta", "reachable": False, "error": "delta could not be reached within 2 s"}
    some = {"charlie": status.Pace(1_234_567.8, 1.2345, 12.345)}
    for paces in [None] if slots else [None, some]:
        shown = status.page(Survey("local", 2, [replica, dead]), paces, slots=slots)
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(shown)
        text = console.export_text()
        assert "…" not in text
        assert "98.8%" in text
        if slots:
            assert text.count("1234567") == 10
        else:
            assert len([line for line in text.splitlines() if line.strip()]) == 7, "a line a replica"


def test_paces_are_those_between_two_answers() -> None:
    watched = status.Watched()

    def survey(**changes: Any) -> Survey:
        return Survey("local", 1, [answer("alpha", **changes) | {"reachable": True}])

    def latency(counts: list[int], total: float) -> dict[str, Any]:
        return {"bounds_s": [0.01, 0.02], "counts": counts, "sum_s": total}

    assert watched.paces(survey(uptime_s=1, proposals=10, latency=latency([5, 5, 0], 0.1)), 100.0) == {}
    paces = watched.paces(survey(uptime_s=3, proposals=250, latency=latency([55, 55, 0], 1.1)), 102.0)
    assert paces["alpha"] == pytest.approx((120.0, 0.01, 0.0198))
    idle = watched.paces(survey(uptime_s=4, proposals=250, latency=latency([55, 55, 0], 1.1)), 103.0)
    assert idle["alpha"] == status.Pace(0.0, None, None)
    assert watched.paces(survey(uptime_s=0.5), 104.0) == {}, "it has started anew"


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, [0, 0, 0], None),
        (0.5, [4, 0, 0], 0.005),
        (0.5, [1, 3, 0], 0.01 + 0.01 / 3),
        (0.9, [0, 0, 7], 0.02),
    ],
)
def test_a_quantile(share: float, counts: list[int], expected: float | None) -> None:
    assert status.quantile(share, [0.01, 0.02], counts) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("heard", "code", "headline"),
    [
        (2, 0, "quorum: 2 of 3, 1 more may fail (cluster local, 3 of 3 replicas answer)"),
        (1, 0, "quorum: 2 of 3, none more may fail (cluster local, 3 of 3 replicas answer)"),
        (
            0,
            1,
            "NO QUORUM: nothing commits; 1 of 3 hear one another, 2 are needed (cluster local, 3 of 3 replicas answer)",
        ),
    ],
)
def test_it_begins_with_the_quorum(
    run: Run, fake: type[FakeClient], heard: int, code: int, headline: str
) -> None:
    fake.answers = {name: answer(name, peers=peers_of(name, heard > 0, heard > 1)) for name in fake.answers}
    result = run("status")
    assert result.stdout.splitlines()[0] == headline
    assert result.exit_code == code


def test_why_replicas_that_answer_do_not_hear_one_another(run: Run, fake: type[FakeClient]) -> None:
    refused = {"online": False, "trouble": "connection refused (10.0.0.2)"}
    fake.answers["alpha"] = answer("alpha", peers={"bravo": refused, "charlie": refused})
    fake.answers["charlie"] = NoAnswer("charlie could not be reached within 2 s")
    *_, first, second = run("status").stdout.splitlines()
    assert first == "alpha: peer bravo is out of reach: connection refused (10.0.0.2)"
    assert second == "charlie could not be reached within 2 s", "of which alpha has nothing to add"


def test_a_replica_whose_disk_failed_is_no_part_of_a_quorum(run: Run, fake: type[FakeClient]) -> None:
    reasons = ["no quorum: hears 1 of 3", "disk failed: no space left"]
    peers = {"x": {"online": True}, "y": {"online": True}}
    for name in fake.answers:
        fake.answers[name] = answer(name, storage_failed="no space left", reasons=reasons, peers=peers)
    result = run("status")
    assert result.stdout.startswith("NO QUORUM: nothing commits; 0 of 3 hear one another")
    assert rows(result)["alpha"][0] == "disk failed"
    assert "\nbravo: disk failed: no space left\n" in result.stdout


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
    assert "2 of 3 replicas answer" in result.stdout
    assert rows(result)["charlie"] == ["silent"]
    assert result.stdout.endswith("\ncharlie could not be reached within 2 s\n")


def test_none_answers(run: Run, fake: type[FakeClient]) -> None:
    fake.answers = {name: Refused(f"{name} is of another cluster") for name in fake.answers}
    result = run("status")
    assert result.exit_code == 3
    assert result.stdout.startswith("NO ANSWER: whether there is a quorum is not known")
    assert result.stdout.count("is of another cluster\n") == 3


def test_a_replica_at_the_address_of_another(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["alpha"] = answer("bravo")
    result = run("status")
    assert result.exit_code == 1
    assert result.stdout.endswith("\nalpha: tcp://127.0.0.1:4264 is bravo, not alpha\n")


def test_members_of_now_are_shown_and_not_those_of_the_file(run: Run, fake: type[FakeClient]) -> None:
    delta, bravo = joined("delta", 9), joined("bravo", 7)
    now = {"members": ["charlie", delta, bravo], "epoch": 5, "row": 0}
    fake.answers["alpha"] = NoAnswer("alpha could not be reached within 2 s")  # removed
    fake.answers["bravo"] = answer(
        "bravo", id="bravo", members=["bravo", "charlie"], row=None
    )  # another one, before
    fake.answers["charlie"] = answer("charlie", id="charlie", **now)
    fake.answers["delta"] = answer("delta", id=delta, **now)
    result = run("status")
    assert "2 of 3 replicas answer" in result.stdout
    shown = [line.split()[0] for line in result.stdout.splitlines() if " silent" in line or "1h" in line]
    assert shown == ["charlie", "delta", "bravo", "bravo"], "the last one is no member"
    assert "bravo: another one of this name answers" in result.stdout
    fake.answers["delta"] = NoAnswer("delta could not be reached within 2 s")
    assert "delta could not be reached within 2 s" in run("status").stdout


def test_who_has_moved_is_asked_again_where_it_is(run: Run, fake: type[FakeClient]) -> None:
    now = {"epoch": 1, "addresses": {"bravo": ["10.0.0.9", 1, 2, 3]}}
    fake.answers = {name: answer(name, **now) for name in NAMES}
    fake.answers["bravo"] = NoAnswer("bravo could not be reached within 2 s")
    assert run("status").exit_code == 1
    assert [name for name, *_ in fake.asked].count("bravo") == 2


def test_json(run: Run, fake: type[FakeClient]) -> None:
    fake.answers["bravo"] = NoAnswer("no answer from bravo within 2 s")
    result = run("status", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    alpha, charlie = (
        json.loads(json.dumps(Status.of(answer(name) | {"digest": "d1"}).as_dict()))
        for name in ("alpha", "charlie")
    )
    assert json.loads(result.stdout) == {
        "cluster": "local",
        "quorum": {"needed": 2, "heard": 2, "spare": 0},
        "replicas": [
            {"reachable": True, **alpha, "behind": 1},
            {"name": "bravo", "reachable": False, "error": "no answer from bravo within 2 s"},
            {"reachable": True, **charlie, "behind": 1},
        ],
    }


def interrupt_after(fake: type[FakeClient], surveys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once so many surveys have been made."""
    ask = fake.status

    async def counting(self: FakeClient, **options: Any) -> Status:
        if len(self.asked) == 3 * surveys:
            signal.raise_signal(signal.SIGINT)
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
    fake.answers["bravo"] = answer("bravo", reasons=["draining: it has been told to stop"])
    result = run("status", "--watch", "0.1")
    assert result.exit_code == 130
    assert result.stdout.count("3 of 3 replicas answer") == 2
    assert result.stdout.count("\nbravo: draining: it has been told to stop\n") == 2
    assert rows(result)["bravo"][0] == "draining"
    assert result.stdout.count("cmd/s") == 2


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


def test_nobody_waits_for_those_who_have_been_removed_nor_for_them_before_asking_who_came() -> None:
    """By the file three replicas are there; two have gone for good, and another has come."""
    delta = joined("delta", 9)
    standing = {"epoch": 4, "members": ("alpha", delta), "removed": ("bravo", "charlie"), "quorum": 2}
    asked: dict[str, float] = {}

    async def status(*, replica: str, digest: bool, timeout: float) -> Status:  # noqa: ASYNC109 - a client's
        asked[replica] = begun = time.monotonic()
        if replica in ("bravo", "charlie"):
            await asyncio.sleep(timeout)
            raise NoAnswer(f"silent from {begun} on, digest {digest}")
        return Status(name=replica, id=delta if replica == "delta" else replica, **standing)  # type: ignore[arg-type]

    begun = time.monotonic()
    client = cast("AsyncClient", SimpleNamespace(status=status))
    found = asyncio.run(survey(client, load_config(None, environ={}), 60.0, digest=False))
    assert [(replica["name"], replica["reachable"]) for replica in found.replicas] == [
        ("alpha", True),
        ("delta", True),
    ]
    assert list(asked) == ["alpha", "bravo", "charlie", "delta"]
    assert 0.3 <= time.monotonic() - begun < 30
