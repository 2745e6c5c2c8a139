from __future__ import annotations

from epaxos.client.status import CatchUp, Latency, PeerState, Status

TOLD = {
    "name": "alpha",
    "executed": [1, 2, 3],
    "peers": {
        "bravo": {
            "online": True,
            "trouble": None,
            "round_trip_s": 0.5,
            "last_heard_s": 1.0,
            "epoch": 2,
            "behind": 3,
            "newest_level": 2,
        }
    },
    "latency": {"bounds_s": [0.01], "counts": [1, 0], "sum_s": 0.005},
    "catch_up": {"peer": "bravo", "stage": "rows", "rows": 7, "bytes": 700, "keys": 5},
    "digest": "d1",
}


def test_a_status_has_what_a_replica_tells() -> None:
    status = Status.of(TOLD)
    assert (status.name, list(status.executed), status.digest) == ("alpha", [1, 2, 3], "d1")
    assert status.peers == {
        "bravo": PeerState(online=True, round_trip_s=0.5, last_heard_s=1.0, epoch=2, behind=3, newest_level=2)
    }
    assert status.latency == Latency([0.01], [1, 0], 0.005)
    assert status.catch_up == CatchUp("bravo", "rows", 7, 700, 5)
    assert status.as_dict().items() >= TOLD.items()


def test_what_another_version_tells_beyond_it_is_kept_apart_and_what_it_does_not_has_its_default() -> None:
    status = Status.of({"name": "alpha", "mood": 7, "peers": {"bravo": {"online": True, "mood": 8}}})
    assert status.others == {"mood": 7}
    assert status.peers["bravo"].online
    assert status.catch_up is None
    assert status.as_dict()["mood"] == 7
    assert "others" not in status.as_dict()
