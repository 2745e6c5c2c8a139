"""Mutants of recovery and of coming back after a crash (protocol 4.7, 4.11)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import FIVE, SMALL, Draw, Mutant, Patch

_RECOVERY: Final = "epaxos.protocol.epaxos.recovery"
_RESTART: Final = "epaxos.protocol.epaxos.restart"

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

VALUES: Final = (
    Mutant(
        "one-ballot",
        "one ballot variable: the ballot promised stands for the one voted in",
        "4.2",
        (
            Patch(
                _RECOVERY,
                "        ballot,\n        instance.abal,\n",
                "        ballot,\n        instance.bal,\n",
            ),
        ),
        schedule="counterexample-single-ballot.txt",
    ),
    Mutant(
        "accepted-value-ignored",
        "a recovery ignores that a value was accepted",
        "4.7 case 2",
        (
            Patch(
                _RECOVERY,
                "accepted = [ok for ok in oks.values() if ok.phase is Phase.ACCEPTED and ok.value is not None]",
                "accepted: list[RecoverOK] = []",
            ),
        ),
        draw=SMALL,
    ),
    Mutant(
        "lower-ballot-preferred",
        "of several accepted values a recovery takes the one of the lowest ballot",
        "4.7 case 2",
        (Patch(_RECOVERY, "max(accepted, key=lambda ok: ok.abal)", "min(accepted, key=lambda ok: ok.abal)"),),
        draw=_RIVALS,
    ),
    Mutant(
        "nop-despite-fast-path",
        "a no-op although the fast path may have committed: all of the quorum must have pre-accepted",
        "4.7 case 4",
        (Patch(_RECOVERY, "if len(unchanged) < len(oks) - quorums.e or", "if len(unchanged) < len(oks) or"),),
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
        (
            Patch(
                _RECOVERY,
                "        recovery.step = Step.VALIDATE\n"
                "        recovery.retries = 0\n"
                '        self._state.cover("case 5: validate")\n'
                "        self._send_validate(recovery, sorted(recovery.quorum))\n",
                '        self._accept_proposal(recovery, "case 6: nothing against")\n',
            ),
        ),
        draw=SMALL,
        harmless=_NO_SECOND_ROUND,
    ),
    Mutant(
        "nop-instead-of-waiting",
        "a no-op at once, where a recovery must wait for what speaks against it",
        "4.7 case 9",
        (
            Patch(
                _RECOVERY,
                "        else:\n            self._wait(recovery)\n",
                '        else:\n            self._annul(recovery, "case 9: wait")\n',
            ),
        ),
        draw=FIVE,
    ),
    Mutant(
        "waiting-threshold-too-low",
        "a Waiting with k = n-f-e is enough to give up",
        "3.8, 4.7 case 12",
        (
            Patch(
                _RECOVERY,
                "self._waiting_k.get(other, 0) > quorums.n - quorums.f - quorums.e for",
                "self._waiting_k.get(other, 0) >= quorums.n - quorums.f - quorums.e for",
            ),
        ),
        draw=_RACE,
        schedule="counterexample-3.8-waiting-threshold.txt",
        harmless=_SLACK,
    ),
    Mutant(
        "owner-rule-unconditional",
        "rule 8 without its condition on |R|: any owner outside the quorum annuls",
        "4.7 case 8",
        (
            Patch(
                _RECOVERY,
                "elif recovery.unchanged == len(quorum) - self._state.quorums.e and any(",
                "elif any(",
            ),
        ),
        draw=FIVE,
        harmless="the owner's answer ends a recovery (case 3), so a quorum of two holds all other owners",
    ),
    Mutant(
        "commit-beside-recovery",
        "a Commit is taken while the local recovery of the instance goes on",
        "3.5",
        (
            Patch(
                _RECOVERY, "        self.forget(place)\n        self._heard.pop(", "        self._heard.pop("
            ),
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
        ),
        draw=SMALL,
    ),
)

RESTART: Final = (
    Mutant(
        "ballot-reused",
        "a recoverer does not record its own promise, and uses the ballot again after a restart",
        "4.1",
        (
            Patch(
                _RECOVERY,
                "        self._promise(instance, ballot)\n        self._commit.leading.pop(place, None)\n",
                "        instance.bal = ballot\n        self._commit.leading.pop(place, None)\n",
            ),
        ),
        draw=SMALL,
    ),
    Mutant(
        "vectors-forgotten",
        "after a restart, instances heard of only inside a dependency vector are forgotten",
        "4.11a",
        (
            Patch(
                _RESTART,
                "        state.hear_of(record.deps)\n"
                "        if record.init is not None:\n"
                "            state.hear_of(record.init.deps)\n",
                "",
            ),
        ),
        draw=_ALL_RESTART,
    ),
)
