"""What a replica answers operators who ask for another epoch."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest

from epaxos import version
from epaxos.actors.admin import PAUSE, Admin, AdminRequest, Standpoint, read_request
from epaxos.config import default_replicas, make_config
from epaxos.errors import FrameError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.membership import Configuration, Member, make_configuration
from harness.members import MEMBERS

FIELDS: dict[str, Any] = {
    "verb": "refresh",
    "base": 0,
    "request": 7,
    "dry_run": False,
    "f": None,
    "e": None,
    "add": [],
    "remove": [],
    "protocol": None,
}
CONFIG = make_config({"replicas": default_replicas(3)}, "test.toml")
DELTA = ["delta", 9, "10.0.0.4", 3264, 4264, 8080]


def asked(**changes: Any) -> AdminRequest:
    return read_request(b"it", msgpack.packb((3, FIELDS | changes)))


class Asked:
    """A replica of three that hears `up` others."""

    def __init__(self, up: int = 2, known: int = 3) -> None:
        self.known = known
        self.stats = stats = ReplicaStats(MEMBERS.names, 0, (), (), 2)
        for name in stats.peers[:up]:
            stats.peer_up[name] = True
        self.admin = Admin(CONFIG, stats, lambda: dict.fromkeys(MEMBERS.names[: self.known], 7))
        self.running = MEMBERS

    def judge(
        self, *, away: str | None = None, is_ending: bool = False, began_at: float = -math.inf, **changes: Any
    ) -> tuple[str, int, str]:
        request = asked(**changes)
        standpoint = Standpoint(away, began_at, is_ending)
        told = self.admin.judge(request, self.running, standpoint, 10.0)
        if told["outcome"] == "proposed":
            self.admin.is_new(request)
        return told["outcome"], told["epoch"], told["text"]

    def following(self, **changes: Any) -> Configuration:
        return self.admin.following(asked(**changes), self.running)

    def begin(self, request: int) -> None:
        self.running = self.running.next(request)
        self.admin.begun(self.running)


def test_a_request_is_proposed_once_and_found_again_when_it_is_done() -> None:
    replica = Asked()
    assert replica.judge(dry_run=True)[0] == "possible"
    assert replica.judge() == ("proposed", 0, "")
    assert replica.judge(is_ending=True)[0] == "proposed"
    assert not replica.admin.is_new(asked())
    assert replica.judge(request=8, is_ending=True)[0] == "refused"
    replica.begin(7)
    replica.begin(9)
    assert replica.judge() == ("done", 1, "epoch 1 has begun")
    assert replica.judge(request=8)[:2] == ("superseded", 2)
    assert replica.judge(request=8, base=2)[0] == "proposed"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"verb": "remove"}, 'no change is called "remove"; allowed: refresh, change, upgrade'),
        (
            {"f": 2},
            (
                "thresholds that do not fit together: n=3, f=2, e=0: n >= max(2e + f - 1, 2f + 1) and 0 <= e <= f "
                "must hold, so with n=3, f is 0 to 1"
            ),
        ),
        ({"base": 4}, "this replica is in epoch 0 and lags; ask another one, or wait"),
        ({"away": "it is stopping"}, "this replica takes no requests: it is stopping"),
        (
            {"verb": "change", "remove": ["bravo", "delta"]},
            "no member is called delta; members: alpha, bravo, charlie",
        ),
        (
            {"verb": "change", "add": [["bravo", *DELTA[1:]]]},
            "members that cannot be: two would be called bravo: remove the one that there is, or replace it",
        ),
        (
            {"verb": "change", "add": [["gone", *DELTA[1:]]]},
            (
                "members that cannot be: gone#0000000000000009 was removed, and never comes back as the same: let it "
                "begin anew"
            ),
        ),
        (
            {"verb": "change", "move": [["delta", 0, *DELTA[2:]]]},
            "delta was never heard here, or is no member, and so it cannot move",
        ),
        (
            {"up": 0},
            (
                "1 of 3 replicas are up (alpha), and 2 must be, or the next epoch could not begin; start the others "
                "first"
            ),
        ),
        (
            {"verb": "change", "remove": ["alpha", "bravo", "charlie"]},
            "members that cannot be: nobody would be left; one at least stays",
        ),
        ({"is_ending": True}, "a change is under way; ask again when epoch 1 has begun"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(changes: dict[str, Any], text: str) -> None:
    replica = Asked(up=changes.get("up", 2))
    replica.running = replica.running._replace(removed=("gone#0000000000000009",))
    outcome, epoch, told = replica.judge(**{name: value for name, value in changes.items() if name != "up"})
    assert (outcome, epoch, "\n" in told) == ("refused", 0, False)
    assert told == text
    assert replica.admin.is_new(asked()), "nothing is under way"


def test_whose_an_epoch_was_that_is_over_is_not_made_up() -> None:
    """As by a replica that was started since, or has fetched the state: the request may be the one that led there."""
    replica = Asked()
    replica.running = replica.running.next(7).next(9)
    replica.admin.begun(replica.running)
    outcome, epoch, text = replica.judge()
    assert (outcome, epoch) == ("unknown", 2)
    assert text.startswith(
        "epoch 1 is over, and whether it came of this request is not known here any more; "
    )
    assert replica.judge(request=9, base=1)[:2] == ("done", 2)
    assert replica.judge(request=8, base=1)[:2] == ("superseded", 2)
    for request in range(70):
        replica.begin(request + 10)
    assert replica.judge(request=20, base=12)[:2] == ("done", 13)
    assert replica.judge(request=10, base=2)[:2] == ("unknown", 72)
    assert len(replica.admin._made) == 64


def test_a_second_lies_between_two_epochs_for_who_asks_for_one_and_not_for_a_mere_question() -> None:
    began_at = 10.1 - PAUSE
    assert Asked().judge(began_at=began_at) == ("early", 0, "epoch 0 has only just begun; ask again in 1 s")
    assert Asked().judge(began_at=began_at, dry_run=True) == ("possible", 0, "")
    assert Asked(0).judge(began_at=began_at)[0] == "refused", "what waiting does not mend is said first"


def test_a_next_epoch_without_a_quorum_is_refused() -> None:
    """It would end the cluster: nothing could be decided in it, and nothing more in the one before."""
    assert Asked(up=1).judge()[0] == "proposed"
    outcome, _, text = Asked(up=0).judge()
    assert outcome == "refused"
    assert text.startswith("1 of 3 replicas are up (alpha), and 2 must be")
    assert "and 3 must be" in Asked(up=1).judge(f=0)[2], "nor one whose thresholds ask for more"


def test_the_next_epoch_may_be_of_another_protocol_that_is_known() -> None:
    told = Asked().judge(protocol="raft")
    assert told == ("refused", 0, 'no protocol is called "raft"; allowed: epaxos, multipaxos')
    assert Asked().judge(protocol="multipaxos")[0] == "proposed"
    assert Asked().following(protocol="multipaxos").protocol == "multipaxos"
    assert Asked().following().protocol == MEMBERS.protocol


@pytest.mark.parametrize("body", [b"", b"\xc1", msgpack.packb(7), msgpack.packb((1,)), msgpack.packb((1, 7))])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        read_request(b"it", body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verb", 1),
        ("base", None),
        ("request", 0),
        ("request", -1),
        ("dry_run", 1),
        ("f", "1"),
        ("e", True),
        ("remove", [7]),
        ("protocol", 7),
        ("add", [7]),
        ("add", [DELTA[:-1]]),
        ("add", [["delta", 0, *DELTA[2:]]]),
    ],
)
def test_fields_of_a_wrong_kind_are_refused(field: str, value: object) -> None:
    with pytest.raises(FrameError):
        asked(**{field: value})
    with pytest.raises(FrameError):
        read_request(b"it", msgpack.packb((3, {key: FIELDS[key] for key in FIELDS if key != field})))


def test_a_level_is_raised_once_all_are_there_and_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    replica, now = Asked(), version.NEWEST
    level = replica.stats.peer_level
    replica.running = replica.running._replace(level=now)
    text = "bravo, charlie must be there to say what their programs know; start them first"
    assert replica.judge(verb="upgrade")[2] == text
    level.update(bravo=now + 1, charlie=now)
    text = f"the cluster is at level {now}, and more is not known to"
    assert replica.judge(verb="upgrade")[2] == f"{text} alpha, charlie"
    monkeypatch.setattr(version, "NEWEST", now + 1)
    assert replica.judge(verb="upgrade")[2] == f"{text} charlie"
    level["charlie"] = now + 2
    assert replica.judge(verb="upgrade")[0] == "proposed"
    assert [replica.following(verb=verb).level for verb in ("upgrade", "refresh")] == [now + 1, now]
    level["charlie"] = 0
    assert replica.following(verb="upgrade").level == now, "it went away meanwhile"


def test_the_next_epoch_tells_the_incarnations_that_are_known() -> None:
    assert Asked(known=1).following().incarnations == {MEMBERS.names[0]: 7}


def test_one_that_joins_takes_the_place_of_one_that_goes() -> None:
    """It has been asked who it is, so it is up; who is silent stands in the way of nothing."""
    replica = Asked(up=1)
    change: dict[str, Any] = {"verb": "change", "add": [DELTA], "remove": ["charlie"]}
    assert replica.judge(**change)[0] == "proposed"
    following = replica.following(**change)
    delta = "delta#0000000000000009"
    assert following.names == ("alpha", "bravo", delta)
    assert following.incarnations == {"alpha": 7, "bravo": 7, delta: 9}
    assert following.members[2] == (*DELTA[1:], 0)
    assert following.removed == ("charlie",)


def test_nobody_stays_of_whom_it_is_not_known_which_replica_it_is() -> None:
    replica = Asked(known=2)
    text = "charlie was never heard here, so it is not known which replica that is; start it first, or remove it too"
    assert replica.judge(verb="change", add=[DELTA])[2] == text
    assert replica.judge(verb="change", add=[DELTA], remove=["charlie"])[0] == "proposed"


def test_members_who_leave_no_quorum_of_those_that_are_up_do_not_go() -> None:
    replica = Asked(up=1)
    outcome, _, text = replica.judge(verb="change", remove=["bravo"])
    assert outcome == "refused"
    assert text.startswith("1 of 2 replicas are up (alpha), and 2 must be")


def test_who_moves_is_elsewhere_until_it_moves_again_and_stays_who_it_is() -> None:
    replica = Asked()
    place = ["10.0.0.9", 1, 2, 3]
    move: dict[str, Any] = {"verb": "change", "move": [["alpha", 0, *place]]}
    assert replica.judge(**move)[0] == "proposed"
    following = replica.following(**move)
    assert following.members[0] == (7, *place, 1)
    assert [(name, at.host, at.port) for name, at in following.moved.items()] == [("alpha", "10.0.0.9", 1)]
    later = following.next(9, members={"alpha": Member(7, *CONFIG.replicas[0].place)})
    assert later.members[0] == following.members[0], "whatever the files say"
    assert later.next(9, members={"alpha": Member(7, "h", 1, 2, 3, 3)}).members[0].host == "h"
    assert make_configuration(msgpack.unpackb(msgpack.packb(following))) == following
    for stranger, known in (("delta", 3), ("charlie", 2)):
        replica = Asked(known=known)
        told = replica.judge(verb="change", move=[[stranger, 0, *place]])
        assert told[2].startswith(f"{stranger} was never heard here, or is no member")
