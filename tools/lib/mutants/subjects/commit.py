"""Mutants of the path without recovery: quorums, PreAccept, Accept, Commit, conflicts (protocol 4.1 to 4.6)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import SMALL, Draw, Mutant, Patch

_QUORUMS: Final = "epaxos.protocol.quorums"
_COMMIT: Final = "epaxos.protocol.epaxos.commit"
_CONFLICTS: Final = "epaxos.protocol.epaxos.conflicts"

_OWN_AND_ONE: Final = (
    "with f=e=1 a quorum is the own vote and one more, so the first copy decides and the second is late"
)

QUORUMS: Final = (
    Mutant(
        "fast-quorum-too-small",
        "a fast quorum is one smaller than n-e",
        "4.1",
        Patch(_QUORUMS, "return self.n - self.e\n", "return self.n - self.e - 1\n"),
    ),
    Mutant(
        "slow-quorum-too-small",
        "a slow quorum is one smaller than n-f",
        "4.1",
        Patch(_QUORUMS, "return self.n - self.f\n", "return self.n - self.f - 1\n"),
        Patch(
            _COMMIT,
            "map(max, *(answer[0] for answer in answers))",
            "map(max, zip(*(a for a, _ in answers)))",
        ),
    ),
    Mutant(
        "duplicate-accept-ok",
        "two copies of an AcceptOK count as two votes",
        "4.3",
        Patch(
            _COMMIT,
            "        leading.answers = {}\n        leading.asked",
            "        leading.answers, leading.same = {}, 0\n        leading.asked",
        ),
        Patch(
            _COMMIT,
            "        leading.answers[sender] = None\n        if len(leading.answers) >=",
            "        leading.answers[sender] = None\n        leading.same += 1\n        if leading.same >=",
        ),
        harmless=_OWN_AND_ONE,
    ),
    Mutant(
        "duplicate-pre-accept-ok",
        "two copies of an unchanged PreAcceptOK count as two votes",
        "4.3",
        Patch(
            _COMMIT,
            "or leading.stage is not Stage.PRE or sender in leading.answers:",
            "or leading.stage is not Stage.PRE:",
        ),
        harmless=_OWN_AND_ONE,
    ),
    Mutant(
        "commit-before-quorum",
        "a coordinator commits with the first AcceptOK, which is its own",
        "4.6",
        Patch(_COMMIT, "if len(leading.answers) >= self._state.quorums.slow and", "if"),
    ),
)

ANSWERS: Final = (
    Mutant(
        "pre-accept-recomputed",
        "a second copy of a PreAccept gets an answer computed anew",
        "4.5",
        Patch(
            _COMMIT,
            "            self._answer_again(sender, instance)\n            return\n"
            "        if instance.bal != 0 or instance.phase is not Phase.INITIAL:",
            "            pass\n        elif instance.bal != 0 or instance.phase is not Phase.INITIAL:",
        ),
    ),
    Mutant(
        "slow-path-unmerged",
        "the slow path proposes the owner's dependencies, not the union of all answers",
        "4.5",
        Patch(
            _COMMIT,
            "deps = tuple(map(max, *(answer[0] for answer in answers)))",
            "deps = leading.instance.init.deps",
        ),
    ),
    Mutant(
        "offer-counts-as-pre-accept",
        "who lacks the payload answers an Offer with a PreAcceptOK",
        "4.5",
        Patch(
            _COMMIT,
            "            state.send((sender,), Missing(message.id))\n        elif",
            "            state.promise((sender,), PreAcceptOK(message.id, state.logs.no_deps, 0))\n        elif",
        ),
    ),
    Mutant(
        "vote-without-payload",
        "who lacks the payload answers an Accept without one with an AcceptOK",
        "4.6",
        Patch(
            _COMMIT,
            "            state.send((sender,), Missing(message.id))  # the PreAccept was lost\n",
            "            state.promise((sender,), AcceptOK(message.id, message.ballot))\n",
        ),
        draw=SMALL,
    ),
    Mutant(
        "commit-refused",
        "a Commit is refused by a replica that promised the instance to another recoverer",
        "1 H",
        Patch(
            "epaxos.protocol.epaxos.core",
            "            if self._commit.on_commit(message):\n",
            "            known = self.state.logs.get(message.id)\n"
            "            if known is not None and known.bal and known.bal % self.state.n != sender:\n"
            "                return\n"
            "            if self._commit.on_commit(message):\n",
        ),
        draw=SMALL,
    ),
)

_HIGHEST: Final = "        deps = self.conflicts.deps(command, place.row, own=place.row == self.me)\n"


def _ignoring(ignored: str) -> Patch:
    """Compute dependencies from the log, without the instances `i` of which a condition holds."""
    return Patch(
        "epaxos.protocol.epaxos.state",
        _HIGHEST,
        "        writes, keys = set(command.writes), {*command.writes, *command.reads}\n"
        "        deps = tuple(\n"
        "            max((s for s, i in row.items() if i.orig is not None\n"
        f"                 and not ({ignored})\n"
        "                 and (keys & set(i.orig.writes) or writes & set(i.orig.reads))), default=-1)\n"
        "            for row in self.logs.rows\n"
        "        )\n"
        "        if place.row != self.me:\n"
        "            deps = (*deps[: place.row], -1, *deps[place.row + 1 :])\n",
    )


_AGAIN: Final = Draw(
    "annulled and proposed again, n=3",
    replicas=3,
    operations=3,
    faults="loss,reorder,crash,death",
    muted=("PreAccept", "Commit"),
    times=(("patience", 4.0), ("phase", 150.0), ("fast_path", 1.0)),
    options=(("keys", 1), ("mix", "writes")),
)
"""Proposals that reach few are annulled, proposed again, and recovered with those who know the annulled ones."""

CONFLICTS: Final = (
    Mutant(
        "nop-conflicts-with-nothing",
        "an instance with a no-op, accepted or committed, conflicts with nothing",
        "3.1",
        _ignoring("i.value is NOP"),
        damage=_AGAIN,
    ),
    Mutant(
        "committed-nop-forgotten",
        "an annulled command stops conflicting once its no-op is committed",
        "3.2",
        _ignoring("i.value is NOP and i.phase is Phase.COMMITTED"),
        damage=_AGAIN,
    ),
    Mutant(
        "reads-do-not-conflict",
        "reads and writes of a key do not conflict, only writes",
        "4.4",
        Patch(
            _CONFLICTS,
            "        last = self.highest[row]\n",
            "        return _highest(written, writes)\n",
        ),
    ),
    Mutant(
        "last-met-for-granted",
        "whoever asks after one that conflicts with the last instance of a row is said to do so too",
        "4.4",
        Patch(
            _CONFLICTS,
            "        if self._met_last[row] and (last in map(written.get, writes) "
            "or last in map(written.get, reads)):\n",
            "        if self._met_last[row]:\n",
        ),
        schedule="tests/unit/protocol/test_conflicts.py::"
        "test_the_last_instance_of_a_row_is_met_again_only_by_who_conflicts_with_it",
    ),
    Mutant(
        "shared-keys-unnoted",
        "a key that was compared with other rows is looked for there no more, also once one of them has it",
        "4.4",
        Patch(
            _CONFLICTS,
            "                    shared |= index.keys() & keys\n",
            "                    pass\n",
        ),
        schedule="tests/unit/protocol/test_conflicts.py::"
        "test_a_key_that_another_row_comes_to_share_is_found_there",
    ),
)
