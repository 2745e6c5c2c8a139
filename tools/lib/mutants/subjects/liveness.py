"""Mutants of what keeps going where links are slow: waits that are measured, and bytes that go once (protocol 4.9).

They break no result and cost only time and bytes, so directed tests bound those.
"""

from __future__ import annotations

from typing import Final

from mutants.mutation import Mutant, Patch

_COMMIT: Final = "epaxos.protocol.epaxos.commit"
_RECOVERY: Final = "epaxos.protocol.epaxos.recovery"
_STATE: Final = "epaxos.protocol.epaxos.state"
_DISSEMINATION: Final = "epaxos.protocol.epaxos.dissemination"
_SUSPICION: Final = "epaxos.protocol.epaxos.suspicion"
_TESTS: Final = "tests/unit/protocol/test_slow_links.py::"

PACE: Final = (
    Mutant(
        "resend-without-asking",
        "who has not answered is sent the payload again",
        "4.9 1",
        Patch(
            _COMMIT,
            "            state.promise(knowing, short)\n",
            "            state.promise(knowing, whole if leading.stage is Stage.PRE else short)\n",
        ),
        schedule=f"{_TESTS}test_payloads_pass_a_slow_link_once",
    ),
    Mutant(
        "return-resends-to-all",
        "when a peer is back, all are sent again what they have not answered, with the payload",
        "4.9 8",
        Patch(
            _COMMIT,
            "                leading.holders.setdefault(peer, -math.inf)\n"
            "                self._ask(leading, (peer,))\n",
            "                leading.holders.clear()\n                self._ask(leading, state.peers)\n",
        ),
        schedule=f"{_TESTS}test_peer_that_comes_back_makes_nobody_send_payloads_to_others",
    ),
    Mutant(
        "returns-count-alike",
        "a peer that comes and goes is asked for what it has promised at each return",
        "4.9 8",
        Patch(_RECOVERY, "(2**returns - 1) * round_trip", "-round_trip"),
        schedule=f"{_TESTS}test_peer_that_comes_and_goes_is_not_asked_for_payloads_each_time",
    ),
    Mutant(
        "question-repeated",
        "decisions are asked for again with each beacon, although the answer is on its way",
        "4.9 3",
        Patch(_DISSEMINATION, "        if peer in self._asked:\n            return\n", ""),
        Patch(_DISSEMINATION, "if row not in asked and first <= last and", "if first <= last and"),
        schedule=f"{_TESTS}test_decisions_that_were_missed_pass_a_slow_link_once",
    ),
    Mutant(
        "decided-elsewhere-recovered",
        "what a peer has decided is recovered, not only asked for",
        "4.9 4",
        Patch(_SUSPICION, "and not covers(decided, place) and not", "and not"),
        Patch(_SUSPICION, "max(state.logs.committed[row], decided) + 1", "state.logs.committed[row] + 1"),
        schedule="tests/unit/protocol/test_comeback.py::test_what_a_peer_has_decided_is_asked_for_and_not_recovered",
    ),
    Mutant(
        "owner-back-overtaken",
        "what an owner that is back has under way is recovered as if it were away",
        "4.9 8",
        Patch(
            _SUSPICION,
            "suspect.due = max(suspect.due, state.now + state.patience(place, 0))\n",
            "pass\n",
        ),
        schedule="tests/unit/protocol/test_comeback.py::test_owner_that_is_back_is_left_to_finish_once",
    ),
)

PATIENCE: Final = (
    Mutant(
        "patience-not-measured",
        "an owner is given time by the configured time-out alone",
        "4.9 4",
        Patch(
            _STATE,
            "max(settings.recovery_timeout, self.round_trips[row].longest + quorum) * (4 + rank)",
            "settings.recovery_timeout * (4 + rank)",
        ),
        schedule=f"{_TESTS}test_time_outs_below_the_round_trip_annul_nothing_without_end",
    ),
    Mutant(
        "attempts-do-not-grow",
        "each attempt at a recovery takes the same time, whatever a round trip takes",
        "4.9 6",
        Patch(_RECOVERY, "interval *= recovery.patience * (", "interval *= ("),
        Patch(_RECOVERY, "max(interval, state.quorum_round_trip)", "interval"),
        schedule=f"{_TESTS}test_instance_of_a_dead_owner_is_decided_however_long_a_round_trip_takes",
    ),
)
