from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from epaxos.actors.amnesia import Refusals, RefusedByPeers
from epaxos.actors.replica import Replica
from epaxos.config import load_config

CONFIG = load_config(None, environ={})
BRAVO, CHARLIE = "bravo", "charlie"


def test_a_refusal_counts_until_the_peer_and_this_replica_hear_each_other() -> None:
    """Else one start with a wrong file, and one of another replica months later, would end a third one that is well."""
    parts: Any = Mock(configuration=CONFIG.initial)
    refusals = Refusals(CONFIG, parts, lambda: True)
    replica: Any = Mock(
        _refusals=refusals, _peer_changes=[], _parts=Mock(eras=Mock(on_link=lambda *_, **__: []))
    )
    text = "cluster: frame of another cluster"
    for refuses, other in ((BRAVO, CHARLIE), (CHARLIE, BRAVO)):
        assert refusals.add(refuses, text, acknowledged=True) is None
        Replica._on_peer(replica, refuses, online=True)
        assert refusals.add(other, text, acknowledged=True) is None
        Replica._on_peer(replica, other, online=True)
    assert refusals.add(BRAVO, text, acknowledged=True) is None
    Replica._on_peer(replica, BRAVO, online=False)
    assert isinstance(refusals.add(CHARLIE, text, acknowledged=True), RefusedByPeers)
