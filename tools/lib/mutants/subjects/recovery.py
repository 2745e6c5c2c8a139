"""Mutants of recovery and of coming back after a crash (protocol 4.7, 4.11)."""

from __future__ import annotations

from itertools import product
from typing import Final

from mutants.mutation import FIVE, SMALL, Draw, Mutant, Patch

_RECOVERY: Final = "epaxos.protocol.epaxos.recovery"
_RESTART: Final = "epaxos.protocol.epaxos.restart"
_COSTS: Final = "tests/simulation/test_costs.py::"

_RIVALS: Final = Draw(
    "rival recoveries, n=3",
    replicas=3,
    operations=3,
    faults="loss,reorder,crash,death",
    muted=("Accept", "Commit", "Recover"),
    times=(("patience", 3.0), ("phase", 150.0), ("fast_path", 1.0)),
)
"""Votes and decisions reach few, so that one recovery after the other finds something else."""

_ALL_RESTART: Final = Draw(
    "everybody restarts, n=3",
    replicas=3,
    operations=4,
    faults="crash,death",
    muted=("PreAccept", "Commit"),
    times=(("patience", 10.0), ("phase", 60.0)),
    options=(("troubles", 10), ("dead", 1)),
)
"""An instance known to its owner alone, who dies, and as a dependency to others, who all restart."""

_FORGETFUL_OWNERS: Final = Draw(
    "owners restart after a recovery, n=3",
    replicas=3,
    operations=4,
    faults="loss,reorder,crash",
    muted=("AcceptOK", "Commit"),
    times=(("patience", 3.0), ("phase", 150.0), ("fast_path", 0.5)),
    options=(("troubles", 12), ("keys", 1), ("mix", "writes"), ("acquainted", True)),
)
"""Owners on the slow path, whose instances others recover, crash and come back."""

_EVERYBODY: Final = range(5)
_WAITERS: Final = Draw(
    "waiting for the unknown, n=5",
    replicas=5,
    operations=6,
    faults="reorder",
    slow=("PreAcceptOK",),
    times=(
        ("patience", 2.0),
        ("phase", 80.0),
        ("fast_path", 100.0),
        ("think", 0.2),
        ("client_timeout", 200.0),
    ),
    options=(
        ("f", 2),
        ("e", 2),
        ("keys", 1),
        ("hot", 1.0),
        ("mix", "writes"),
        ("thrifty", False),
        ("acquainted", True),
        ("clients", 6),
        ("window", 1),
        (
            "mutes",
            (
                *(("PreAccept", *link) for link in ((0, 2), (0, 3), (0, 4), (3, 0), (3, 1))),
                *(("PreAcceptOK", sender, 0) for sender in (1, 2, 3, 4)),
                *(("RecoverOK", sender, 1) for sender in (0, 4)),
                *(("Recover", *link) for link in product((0, 2, 3, 4), _EVERYBODY) if link[0] != link[1]),
            ),
        ),
    ),
)
"""Replica 1 recovers what only it and the owner, 0, know, with 2 and 3 as its quorum. Against it stands an instance of
3 that 1 does not know, and that 3 decides on the fast path later."""

VALUES: Final = (
    Mutant(
        "one-ballot",
        "one ballot variable: the ballot promised stands for the one voted in",
        "4.2",
        Patch(
            _RECOVERY,
            "        ballot,\n        instance.abal,\n",
            "        ballot,\n        instance.bal,\n",
        ),
        schedule="counterexample-single-ballot.txt",
    ),
    Mutant(
        "accepted-value-ignored",
        "a recovery ignores that a value was accepted",
        "4.7 case 2",
        Patch(
            _RECOVERY,
            "accepted = [ok for ok in oks.values() if ok.phase is Phase.ACCEPTED and ok.value is not None]",
            "accepted: list[RecoverOK] = []",
        ),
        draw=SMALL,
    ),
    Mutant(
        "lower-ballot-preferred",
        "of several accepted values a recovery takes the one of the lowest ballot",
        "4.7 case 2",
        Patch(_RECOVERY, "max(accepted, key=lambda ok: ok.abal)", "min(accepted, key=lambda ok: ok.abal)"),
        draw=_RIVALS,
    ),
    Mutant(
        "nop-despite-fast-path",
        "a no-op although the fast path may have committed: all of the quorum must have pre-accepted",
        "4.7 case 4",
        Patch(_RECOVERY, "if len(unchanged) < len(oks) - quorums.e or", "if len(unchanged) < len(oks) or"),
    ),
)

_RACE: Final = Draw(
    "late answers, n=5",
    replicas=5,
    operations=3,
    faults="loss,reorder,crash,death",
    muted=("PreAccept", "Commit"),
    slow=("PreAcceptOK",),
    times=(("patience", 2.0), ("phase", 150.0), ("fast_path", 100.0), ("think", 1.0), ("checkpoint", 1e9)),
    options=(
        ("f", 2),
        ("e", 2),
        ("keys", 1),
        ("mix", "writes"),
        ("thrifty", False),
        ("checkpoint_size", 10**9),
    ),
)
"""Owners that decide on the fast path late, while others recover already, and then are not heard; no checkpoints."""

_SLACK: Final = (
    "a fast quorum and the k+1 that know the other command have no replica in common, so k >= e excludes one "
    "already; n-f-e exceeds e-1 wherever n > 2e+f-1, which is so for n=3 and not for n=5 with e=2"
)

_NO_SECOND_ROUND: Final = (
    "whoever pre-accepted the proposal unchanged covers one of the two in any answer to the other command, and so "
    "does the owner; every quorum of the other command needs one of them"
)

JUDGEMENT: Final = (
    Mutant(
        "no-validation",
        "what the owner proposed is accepted without Validate",
        "4.7 case 5",
        Patch(
            _RECOVERY,
            "        recovery.step = Step.VALIDATE\n"
            "        recovery.retries = 0\n"
            '        self._state.cover("case 5: validate")\n'
            "        self._send_validate(recovery, sorted(recovery.quorum))\n",
            '        self._accept_proposal(recovery, "case 6: nothing against")\n',
        ),
        draw=SMALL,
        harmless=_NO_SECOND_ROUND,
    ),
    Mutant(
        "nop-instead-of-waiting",
        "a no-op at once, where a recovery must wait for what speaks against it",
        "4.7 case 9",
        Patch(
            _RECOVERY,
            "        else:\n            self._wait(recovery)\n",
            '        else:\n            self._annul(recovery, "case 9: wait")\n',
        ),
        draw=FIVE,
    ),
    Mutant(
        "waiting-threshold-too-low",
        "a Waiting with k = n-f-e is enough to give up",
        "3.8, 4.7 case 12",
        Patch(
            _RECOVERY,
            "self._waiting_k.get(other, 0) > quorums.n - quorums.f - quorums.e for",
            "self._waiting_k.get(other, 0) >= quorums.n - quorums.f - quorums.e for",
        ),
        draw=_RACE,
        schedule="counterexample-3.8-waiting-threshold.txt",
        harmless=_SLACK,
    ),
    Mutant(
        "owner-rule-unconditional",
        "rule 8 without its condition on |R|: any owner outside the quorum annuls",
        "4.7 case 8",
        Patch(
            _RECOVERY,
            "elif recovery.unchanged == len(quorum) - self._state.quorums.e and any(",
            "elif any(",
        ),
        draw=FIVE,
        harmless="the owner's answer ends a recovery (case 3), so a quorum of two holds all other owners",
    ),
    Mutant(
        "changed-taken-for-unchanged",
        "k counts all in the quorum who pre-accepted, also those who added dependencies",
        "4.7 cases 4, 8",
        Patch(
            _RECOVERY,
            "return ok.phase is Phase.PREACCEPTED and ok.init is not None and ok.deps == ok.init.deps",
            "return ok.phase is Phase.PREACCEPTED and ok.init is not None",
        ),
        draw=_RACE,
    ),
    Mutant(
        "any-waiting-annuls",
        "a recovery gives up for any other that waits, however few hold that one unchanged",
        "3.8, 4.7 case 12",
        Patch(
            _RECOVERY,
            "elif any(self._waiting_k.get(other, 0) > quorums.n - quorums.f - quorums.e for other in open_ones):",
            "elif any(other in self._waiting_k for other in open_ones):",
        ),
        draw=_RACE,
        harmless=_SLACK,
    ),
    Mutant(
        "late-owner-ignored",
        "a recovery that validates or waits does not heed the owner's late answer",
        "4.7 case 13",
        Patch(
            _RECOVERY,
            "        elif sender == recovery.instance.id.row:\n"
            '            self._annul(recovery, "case 13: owner answered")\n',
            "",
        ),
        schedule=_COSTS + "test_late_owner_ends_a_recovery",
    ),
    Mutant(
        "unknown-taken-for-decided",
        "a recovery that waits takes an instance that it does not know for one decided in its favour",
        "4.7 case 11",
        Patch(
            _RECOVERY,
            "            if instance is None or instance.phase is not Phase.COMMITTED:\n"
            "                open_ones",
            "            if instance is None:\n                continue\n"
            "            if instance.phase is not Phase.COMMITTED:\n"
            "                open_ones",
        ),
        draw=_WAITERS,
    ),
    Mutant(
        "owner-rule-for-all",
        "rule 8 asks that the owners of all instances against it are outside the quorum, not of one",
        "4.7 case 8",
        Patch(_RECOVERY, "- self._state.quorums.e and any(", "- self._state.quorums.e and all("),
        schedule=_COSTS + "test_one_owner_outside_the_quorum_is_enough_to_annul",
    ),
    Mutant(
        "nack-forgotten",
        "a recoverer forgets the ballot that a Nack tells it",
        "4.7",
        Patch(
            _RECOVERY,
            "self._heard[place] = max(message.ballot, self._heard.get(place, 0))",
            "self._heard[place] = self._heard.get(place, 0)",
        ),
        schedule="tests/unit/protocol/test_comeback.py::"
        "test_nack_brings_a_recoverer_above_all_that_was_promised",
    ),
    Mutant(
        "beacon-unheeded",
        "a replica does not ask for the decisions that it missed",
        "4.9, timer 3",
        Patch(
            "epaxos.protocol.epaxos.dissemination",
            "        self._ask(sender, self._stalled[sender])\n",
            "        self._stalled[sender] = []\n",
        ),
        schedule=_COSTS + "test_who_missed_decisions_asks_for_them",
    ),
    Mutant(
        "dropped-asked-for",
        "who has dropped decisions is asked for them, though another peer has them",
        "4.9, timer 3",
        Patch(
            "epaxos.protocol.epaxos.dissemination",
            "        return dropped[peer][row] >= slot and any(",
            "        return False and any(",
        ),
        schedule=_COSTS + "test_who_was_away_under_load_fetches_one_checkpoint",
    ),
    Mutant(
        "commit-beside-recovery",
        "a Commit is taken while the local recovery of the instance goes on",
        "3.5",
        Patch(_RECOVERY, "        self.forget(place)\n        self._heard.pop(", "        self._heard.pop("),
        Patch(
            _RECOVERY,
            "instance.bal != ballot or instance.abal == ballot or instance.phase is Phase.COMMITTED:",
            "instance.bal != ballot or instance.abal == ballot:",
        ),
        Patch(
            "epaxos.protocol.epaxos.core",
            "            return self.state.is_held(place)\n",
            "            return self.state.is_held(place)\n"
            "        if isinstance(message, RecoverOK | ValidateOK):\n            return False\n",
        ),
        draw=SMALL,
    ),
)

RESTART: Final = (
    Mutant(
        "ballot-reused",
        "a recoverer does not record its own promise, and uses the ballot again after a restart",
        "4.1",
        Patch(
            _RECOVERY,
            "        self._promise(instance, ballot)\n        self._commit.leading.pop(place, None)\n",
            "        instance.bal = ballot\n        self._commit.leading.pop(place, None)\n",
        ),
        draw=SMALL,
    ),
    Mutant(
        "resumed-at-any-ballot",
        "an owner goes on after a restart at ballot 0 with what others have recovered meanwhile",
        "4.11a",
        Patch(
            _RESTART,
            "        if instance.bal == 0 and instance.phase in",
            "        if instance.phase in",
        ),
        draw=_FORGETFUL_OWNERS,
    ),
    Mutant(
        "vectors-forgotten",
        "after a restart, instances heard of only inside a dependency vector are forgotten",
        "4.11a",
        Patch(
            _RESTART,
            "        state.hear_of(record.deps)\n"
            "        if record.init is not None:\n"
            "            state.hear_of(record.init.deps)\n",
            "",
        ),
        draw=_ALL_RESTART,
    ),
)
