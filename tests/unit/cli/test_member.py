"""What `epaxos member` makes of what replicas say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from click.testing import CliRunner

from epaxos.cli import changing
from epaxos.cli.changing import Request, _shortcomings
from epaxos.cli.member import member
from epaxos.cli.members import Members
from epaxos.cli.survey import Survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Change
from epaxos.config import load_config
from epaxos.errors import NoAnswer
from epaxos.protocol.quorums import Quorums

CONFIG = load_config(None, environ={})
LAST = CONFIG.replicas[-1]
PORTS = LAST.host, LAST.port, LAST.client_port, LAST.metrics_port
NAMES = [replica.name for replica in CONFIG.replicas]


def status(name: str, epoch: int, *, request: int = 7, heard: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    peers = [peer for peer in NAMES if peer != name]
    return {
        "name": name,
        "id": name,
        "row": NAMES.index(name),
        "members": NAMES,
        "reachable": True,
        "reasons": [],
        "storage_failed": None,
        "epoch": epoch,
        "request": request,
        "f": 1,
        "e": 1,
        "protocol": "epaxos",
        "level": 10,
        "changing": False,
        "behind": 0,
        "peers": {
            peer: {"online": True, "epoch": of, "trouble": None}
            for peer, of in zip(peers, heard, strict=True)
        },
    }


def silent(name: str) -> dict[str, Any]:
    return {"name": name, "reachable": False, "error": "connection refused"}


def members(*replicas: dict[str, Any]) -> Members:
    return Members(Survey(CONFIG.name, 2, list(replicas)), CONFIG)


def test_of_a_member_that_is_silent_its_peers_say_in_which_epoch_it_was() -> None:
    found = members(status("alpha", 4, heard=(3, 2)), status("bravo", 3), silent("charlie"))
    told = found.as_json()
    assert [(entry["state"], entry["epoch"]) for entry in told["members"]] == [
        ("up", 4),
        ("lags", 3),
        ("silent", 2),
    ]
    assert (told["epoch"], told["reached"], told["needed"], told["established"]) == (4, 1, 2, False)
    assert (
        found.lines()[0] == "epoch 4, not established at 1 of 3; f 1, e 1, epaxos, level 10; 1 more may fail"
    )
    assert found.lines()[3].split() == ["charlie", "voter", "127.0.0.1:3266", "silent", "epoch", "2"]


def joiner(name: str) -> dict[str, Any]:
    return status(name, 0) | {
        "id": f"{name}#0000000000000009",
        "row": None,
        "members": [],
        "reasons": ["no vote: …"],
    }


def test_who_waits_to_join_is_no_member_and_counts_for_nothing() -> None:
    ids = {"members": ["alpha", "bravo", "delta#0000000000000007"]}
    found = members(*(status(name, 4, heard=(4, 4)) | ids for name in ("alpha", "bravo")), joiner("charlie"))
    told = found.as_json()
    assert [(entry["id"], entry["role"], entry["state"], entry["port"]) for entry in told["members"]] == [
        ("alpha", "voter", "up", 3264),
        ("bravo", "voter", "up", 3265),
        ("delta#0000000000000007", "voter", "silent", None),
        ("charlie#0000000000000009", "joiner", "waits", 3266),
    ]
    assert (told["epoch"], told["reached"], told["needed"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("ids", "role"), [(NAMES[:2], "observer"), ([*NAMES[:2], joiner("charlie")["id"]], "voter")]
)
def test_one_that_answers_and_is_told_of_is_shown_once(ids: list[str], role: str) -> None:
    """An observer, which answers as one that joins does; and one that has a vote, of which bravo has not heard."""
    oscar = joiner("charlie")
    follows = {"observers": {oscar["id"]: {"online": True, "behind": 2}}}
    oscar["observes"] = role == "observer"
    if role == "voter":
        oscar |= {"epoch": 4, "row": 2, "members": ids, "reasons": []}
    there = [status("alpha", 4) | {"members": ids}, status("bravo", 3) | {"members": NAMES[:2]} | follows]
    told = members(*there, oscar).as_json()["members"]
    assert [(entry["id"], entry["role"]) for entry in told] == [
        ("alpha", "voter"),
        ("bravo", "voter"),
        (oscar["id"], role),
    ]


def test_one_that_is_to_join_and_is_not_in_the_file_of_the_command_is_no_observer() -> None:
    follows = {
        f"{name}#0000000000000009": {"online": True, "behind": 2, "joins": name == "delta"}
        for name in ("delta", "oscar")
    }
    told = members(*(status(name, 4) | {"observers": follows} for name in NAMES)).as_json()["members"]
    assert [(entry["name"], entry["role"], entry["behind"]) for entry in told[3:]] == [
        ("delta", "joiner", 2),
        ("oscar", "observer", 2),
    ]


def test_who_was_removed_and_is_still_heard_is_no_observer() -> None:
    heard = {f"{name}#0000000000000009": {"online": False, "behind": 2} for name in ("delta", "oscar")}
    gone = {"removed": ["delta#0000000000000009"], "observers": heard}
    told = members(*(status(name, 4) | gone for name in NAMES)).as_json()["members"]
    assert [entry["name"] for entry in told[3:]] == ["oscar"]


@pytest.mark.parametrize(("name", "fits"), [("charlie", True), ("bravo", False), ("delta", False)])
def test_one_that_joins_is_one_that_waits_for_it(name: str, fits: bool) -> None:  # noqa: FBT001
    found = members(
        *(status(member, 4) | {"members": NAMES[:2]} for member in NAMES[:2]), follower("charlie")
    )
    change = Request(CONFIG, 30.0, None, members=((name,), (), ()), dry_run=False)
    assert bool(change._find_joiners(found)) != fits
    assert change._joiners == ([("charlie", 9, *PORTS)] if fits else [])


def follower(name: str, **told: object) -> dict[str, Any]:
    return joiner(name) | {"epoch": 4, "members": NAMES[:2]} | told


@pytest.mark.parametrize(
    ("told", "lag", "row"),
    [
        (follower("charlie"), "", "up  epoch 4  caught up"),
        (follower("charlie", behind=1000), "", "up  epoch 4  1000 behind"),
        (follower("charlie", behind=1001), "1001 behind", "up  epoch 4  1001 behind"),
        (follower("charlie", epoch=3), "still in epoch 3", "up  epoch 3  caught up"),
        (joiner("charlie"), "in touch with no member yet", "waits  epoch 0"),
        (
            joiner("charlie") | {"catch_up": {"stage": "fetching", "keys": 93}},
            "caught up 93 %",
            "fetches  epoch 0  caught up 93 %",
        ),
    ],
)
def test_how_far_one_is_that_is_to_join_is_shown_and_waited_for(
    told: dict[str, Any], lag: str, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [
        status(name, 4) | {"members": NAMES[:2], "keys": 90, "sessions": 10, "newest_level": 10}
        for name in NAMES[:2]
    ]
    found = members(*there, told | {"newest_level": 10})
    assert found.lag_of(told) == lag
    assert found.lines()[3].split("  ", 3)[-1].strip() == row
    for lagging, dry in ((False, False), (False, True), (True, False)):
        cluster = Cluster(monkeypatch, "proposed")
        after = [one | {"epoch": 5} for one in there]
        cluster.looks = [found, members(*after)] if lagging or not lag else [found, found]
        change = Request(CONFIG, 30.0, None, members=(("charlie",), (), ()), lagging=lagging, dry_run=dry)
        change._request = 7
        if lag and not (lagging or dry):
            change._until = 0.0  # there is no more time to wait for it
        asyncio.run(change._try(cluster.client))
        if lag and not lagging:
            assert change.told()["outcome"] == "refused"
            assert change.told()["text"] == (
                f"charlie is {lag}: ask again when it has caught up, or wait for longer (--timeout), "
                "or do not (--lagging)"
            )
            assert cluster.asked == []
        else:
            assert cluster.asked == [("alpha", 7)]


def test_a_change_goes_on_once_who_joins_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [status(name, 4) | {"members": NAMES[:2], "newest_level": 10} for name in NAMES[:2]]
    cluster = Cluster(monkeypatch, "proposed")
    ways = (joiner("charlie"), follower("charlie", behind=5000), follower("charlie"))
    cluster.looks = [members(*there, one | {"newest_level": 10}) for one in ways]
    cluster.looks.append(members(*(one | {"epoch": 5} for one in there)))
    change = Request(CONFIG, 30.0, None, members=(("charlie",), (), ()), dry_run=False)
    change._request = 7
    asyncio.run(change._try(cluster.client))
    assert (change.told()["outcome"], cluster.asked, cluster.looks) == ("done", [("alpha", 7)], [])


def test_who_joins_may_be_too_busy_to_answer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it with --lagging: its number is known."""
    there = [status(name, 4) | {"members": NAMES[:2], "newest_level": 10} for name in NAMES[:2]]
    cluster = Cluster(monkeypatch, "proposed")
    fetches = joiner("charlie") | {"catch_up": {"stage": "fetching", "keys": 93}, "newest_level": 10}
    absent = members(*there, silent("charlie"))
    for late in (False, True):
        caught_up = follower("charlie", newest_level=10)
        cluster.looks = [members(*there, fetches), absent, *([] if late else [members(*there, caught_up)])]
        cluster.looks.append(members(*(one | {"epoch": 5} for one in there)))
        change = Request(CONFIG, 30.0, None, members=(("charlie",), (), ()), lagging=late, dry_run=False)
        change._request = 7
        cluster.answers = ["proposed"]
        if late:
            asyncio.run(change._look(cluster.client))
        asyncio.run(change._try(cluster.client))
        assert cluster.looks == []
        assert (change.told()["outcome"], cluster.asked) == ("done", [("alpha", 7)])
        cluster.asked.clear()


def test_who_joins_may_have_been_heard_by_members_alone_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = {"charlie#0000000000000009": {"online": True, "behind": 2, "joins": True}}
    there = [
        status(name, 4) | {"members": NAMES[:2], "newest_level": 10, "observers": heard} for name in NAMES[:2]
    ]
    cluster = Cluster(monkeypatch, "proposed")
    cluster.looks = [
        members(*there, silent("charlie")),
        members(*there, follower("charlie", newest_level=10)),
    ]
    cluster.looks.append(members(*(one | {"epoch": 5} for one in there)))
    change = Request(CONFIG, 30.0, None, members=(("charlie",), (), ()), dry_run=False)
    change._request = 7
    asyncio.run(change._try(cluster.client))
    assert (change.told()["outcome"], cluster.asked) == ("done", [("alpha", 7)])


def test_a_name_that_is_given_twice_counts_once() -> None:
    change = Request(CONFIG, 30.0, None, members=((), ("alpha", "alpha"), ()), dry_run=True)
    assert change._remove == ("alpha",)


def test_where_nobody_answers_there_is_nothing_to_tell() -> None:
    with pytest.raises(NoAnswer, match="alpha: connection refused; bravo"):
        members(*map(silent, NAMES)).as_json()


def refreshing(base: int) -> Request:
    change = Request(CONFIG, 30.0, None, dry_run=False)
    change.base, change._request = base, 7
    return change


@pytest.mark.parametrize(
    ("epochs", "request_", "outcome", "text"),
    [
        ((4, 4, 4), 7, None, ""),
        ((5, 4, 4), 7, None, ""),
        ((5, 5, 4), 7, "done", "epoch 5 established: alpha, bravo, charlie"),
        ((5, 4, 4), 8, "superseded", "epoch 5 has begun, by another request; nothing is changed"),
        ((6, 6, 4), 8, "done", "epoch 5 established: alpha, bravo, charlie"),
    ],
)
def test_a_refresh_is_over_when_its_epoch_is_established(
    epochs: tuple[int, ...], request_: int, outcome: str | None, text: str
) -> None:
    """Of an epoch that has ended by now the answer to the request told whose it was."""
    change = refreshing(4)
    replicas = [status(name, epoch, request=request_) for name, epoch in zip(NAMES, epochs, strict=True)]
    assert change._judge(members(*replicas)) == (outcome is not None)
    if outcome is not None:
        assert change.told() == {"outcome": outcome, "epoch": 4 + (outcome == "done"), "text": text}


@pytest.mark.parametrize(
    ("add", "remove", "is_so"),
    [
        (["bravo"], ["delta"], True),
        (["bravo"], [], True),
        ([], ["delta"], True),
        ([], ["golf"], False),
        ([], ["bravo"], False),
        (["bravo"], ["bravo"], False),
        (["alpha"], ["alpha"], True),
        (["golf"], ["delta"], False),
        ([], [], False),
    ],
)
def test_what_is_asked_for_again_and_has_happened_is_so(
    add: list[str], remove: list[str], *, is_so: bool
) -> None:
    other = "alpha#0000000000000007"
    told = {"members": [other, "bravo"], "removed": ["alpha", "delta"]}
    there = [status("alpha", 4) | told | {"id": other}, status("bravo", 4) | told]
    change = Request(CONFIG, 30.0, None, members=(add, remove, ()), dry_run=False)
    assert change._is_so(members(*there)) == is_so


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (None, "nobody answers at tcp://127.0.0.1:4264, and not alpha: start it there first, with its data"),
        (
            "bravo",
            "bravo answers at tcp://127.0.0.1:4264, and not alpha: start it there first, with its data",
        ),
        ("alpha", ""),
    ],
)
def test_who_has_moved_has_to_be_where_the_file_has_it(
    there: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class There:
        """Whoever answers at an address, if anybody does."""

        def __init__(self, endpoint: str, *, config: object) -> None:
            assert (endpoint, config) == (CONFIG.replica("alpha").client_endpoint, CONFIG)

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def status(self, **_: float) -> Any:
            if there is None:
                raise NoAnswer("no answer")
            return SimpleNamespace(id=there)

    monkeypatch.setattr(changing, "AsyncClient", There)
    change = Request(CONFIG, 30.0, None, members=((), (), ("alpha",)), dry_run=False)
    found = members(*(status(name, 4) for name in NAMES))
    assert asyncio.run(change._find_moved(found)) == text
    place = CONFIG.replica("alpha").place
    assert change._movers == ([] if text else [("alpha", 0, *place)])


@pytest.mark.parametrize(
    ("now", "following", "with_state", "texts"),
    [
        ((3, 1, 1), (3, 1, 1), 3, []),
        ((3, 1, 1), (3, 1, 1), 2, []),
        (
            (3, 1, 1),
            (3, 1, 1),
            0,
            ["nothing commits until 2 of those that join have fetched the state"],
        ),
        (
            (1, 0, 0),
            (2, 0, 0),
            1,
            [
                "with f 0 nothing commits while any replica is down",
                "2 replicas survive no more crashes than 1",
                "nothing commits until 1 of those that join has fetched the state",
            ],
        ),
        ((5, 2, 1), (4, 1, 1), 4, ["1 may fail then, and not 2"]),
        ((3, 1, 1), (4, 1, 1), 3, ["4 replicas survive no more crashes than 3"]),
        ((3, 1, 1), (1, 0, 0), 1, ["0 may fail then, and not 1"]),
    ],
)
def test_what_the_next_members_can_do_less_is_said(
    now: tuple[int, int, int], following: tuple[int, int, int], with_state: int, texts: list[str]
) -> None:
    assert _shortcomings(Quorums(*now), Quorums(*following), with_state) == texts


def test_it_is_said_once_before_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = members(*(status(name, 4) for name in NAMES))
    change = Request(CONFIG, 30.0, None, members=((), NAMES[:1], ()), dry_run=True)
    change._warn(found)
    change._warn(found)
    assert capsys.readouterr().err.splitlines() == [
        "warning: with f 0 nothing commits while any replica is down",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say which: --add, --remove, --replace, --f, --e, --protocol, or several"),
        (["--add", "delta", "--replace", "alpha", "delta"], "--add or --replace: delta is named twice"),
        (["--remove", "alpha", "--replace", "alpha", "delta"], "--remove or --replace: alpha is named twice"),
        (["--replace", "alpha"], "'--replace' requires 2 arguments"),
    ],
)
def test_a_change_names_each_once(options: list[str], said: str) -> None:
    result = CliRunner().invoke(member, ["change", *options])
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_several_are_changed_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "epaxos.cli.member.change", lambda _, *given, **named: asked.append((given[1:], named))
    )
    options = [
        "--add",
        "delta",
        "--replace",
        "alpha",
        "alpha",
        "--remove",
        "bravo",
        "--lagging",
        "--e",
        "0",
        "--protocol",
        "epaxos",
    ]
    assert CliRunner().invoke(member, ["change", *options]).exit_code == 0
    assert asked == [
        (
            (None, 0),
            {
                "protocol": "epaxos",
                "add": ["delta", "alpha"],
                "remove": ["bravo", "alpha"],
                "lagging": True,
            },
        )
    ]


def test_who_comes_second_is_asked_for_again_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two operators neither undoes what the other has done, and neither has to begin anew."""
    cluster = Cluster(monkeypatch, "proposed", "proposed", "superseded")
    change = Request(CONFIG, 30.0, None, e=0, dry_run=False)
    level = {"newest_level": 10}
    first = members(*(status(name, 4) | level for name in NAMES))
    other = members(*(status(name, 5, request=8) | level for name in NAMES))
    numbers = iter((7, 9))
    monkeypatch.setattr("secrets.randbits", lambda _: next(numbers))
    change._request = 6
    done = members(*(status(name, 6, request=7) | level for name in NAMES))
    cluster.looks = [first, other, other, done]
    monkeypatch.setattr(changing, "AsyncClient", lambda **_: nullcontext_of(cluster.client))
    asyncio.run(change.run())
    assert change.told() == {
        "outcome": "done",
        "epoch": 6,
        "text": "epoch 6 established: alpha, bravo, charlie",
    }
    assert cluster.asked == [("alpha", 6), ("alpha", 7)]


@asynccontextmanager
async def nullcontext_of(client: AsyncClient) -> AsyncIterator[AsyncClient]:
    yield client


class Cluster:
    """Replicas that answer requests as they are told to, and tells who was asked for what; a client of theirs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.looks: list[Members] = []
        monkeypatch.setattr(changing, "_LOOK", 0.0)
        monkeypatch.setattr(changing, "members_of", self._look)

    async def refresh(self, base: int, *, replica: str, request: int, **_: object) -> Change:
        self.asked.append((replica, request))
        return Change(self.answers.pop(0), base, "so it is")

    async def _look(self, *_: object) -> Members:
        return self.looks.pop(0)

    @property
    def client(self) -> AsyncClient:
        return cast("AsyncClient", self)


def test_what_comes_too_early_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, change = Cluster(monkeypatch, "early", "early", "proposed"), refreshing(4)
    assert asyncio.run(change._ask(cluster.client, "alpha", 3))
    assert cluster.asked == [("alpha", 7)] * 3


def test_what_is_too_early_until_there_is_no_more_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, change = Cluster(monkeypatch, "early"), refreshing(4)
    change._until = 0.0
    assert not asyncio.run(change._ask(cluster.client, "alpha", 3))
    assert change.told()["outcome"] == "refused"


def test_if_the_replica_that_was_asked_falls_silent_another_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one may see the barrier of the first, which may still be annulled: it is asked until it takes it."""
    cluster, change = Cluster(monkeypatch, "proposed", "refused", "proposed"), refreshing(4)
    without = members(silent("alpha"), status("bravo", 4), status("charlie", 4))
    begun = members(silent("alpha"), status("bravo", 5), status("charlie", 5))
    cluster.looks = [without, without, without, begun]
    assert asyncio.run(change._ask(cluster.client, "alpha", 3))
    asyncio.run(change._wait(cluster.client, {}))
    assert cluster.asked == [("alpha", 7), ("bravo", 7), ("bravo", 7)]
    assert change.told()["outcome"] == "done"
