from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from epaxos.actors.amnesia import Refusals, RefusedByPeers
from epaxos.actors.replica import Replica
from epaxos.config import load_config
from epaxos.protocol.contract import Effects, PeerStatus

CONFIG = load_config(None, environ={})
BRAVO, CHARLIE = "bravo", "charlie"
PARTS: Any = Mock(
    configuration=CONFIG.initial,
    eras=Mock(votes=CONFIG.initial.names.__contains__),
    me=CONFIG.initial.names[0],
)


def test_a_refusal_counts_until_the_peer_and_this_replica_hear_each_other() -> None:
    """Else one start with a wrong file, and one of another replica months later, would end a third one that is well."""
    refusals = Refusals(CONFIG, PARTS, lambda: True)
    replica: Any = Mock(_refusals=refusals, _parts=Mock(eras=Mock(on_link=lambda *_, **__: [])))
    text = "cluster: frame of another cluster"
    for refuses, other in ((BRAVO, CHARLIE), (CHARLIE, BRAVO)):
        assert refusals.add(refuses, text, acknowledged=True) is None
        Replica._on_peer(replica, refuses, online=True)
        assert refusals.add(other, text, acknowledged=True) is None
        Replica._on_peer(replica, other, online=True)
    assert refusals.add(BRAVO, text, acknowledged=True) is None
    Replica._on_peer(replica, BRAVO, online=False)
    assert isinstance(refusals.add(CHARLIE, text, acknowledged=True), RefusedByPeers)


def test_a_refusal_of_who_has_no_vote_ends_nobody() -> None:
    """One of a cluster that was begun anew under its old name knows another one of this name."""
    refusals = Refusals(CONFIG, PARTS, lambda: True)
    text = "duplicate_name: alpha is another one than the alpha heard before"
    assert refusals.add("delta#00c0ffee00c0ffee", text, acknowledged=True) is None
    assert isinstance(refusals.add(BRAVO, text, acknowledged=True), RefusedByPeers)


def test_what_was_noted_of_peers_in_an_epoch_that_is_over_is_not_told_the_next_one() -> None:
    """Its rows are others, and it has been told of all peers."""
    running = Mock(epoch=1)
    replica: Any = Mock(_peer_changes=[], _parts=Mock(eras=Mock(running=running)))
    replica._core = Mock(deadline=9.0)
    replica._core.on_event.return_value = Effects()
    Replica._note_changes(replica, [PeerStatus(1, online=False)])
    running.epoch += 1
    Replica._note_changes(replica, [PeerStatus(0, online=True)])
    Replica._take_own_events(replica, [], 1.0)
    replica._core.on_event.assert_called_once_with(PeerStatus(0, online=True), 1.0)
    replica._post.hasten.assert_not_called()


def test_whoever_would_lead_hears_at_once_that_a_peer_is_gone() -> None:
    """Its beacon that has just left was of before, and the next one may be far."""
    replica: Any = Mock(_peer_changes=[], _parts=Mock(eras=Mock(running=Mock(epoch=1))))
    replica._core = Mock(deadline=9.0)
    Replica._note_changes(replica, [PeerStatus(1, online=False)])
    Replica._take_own_events(replica, [], 1.0)
    replica._post.hasten.assert_called_once_with()
