"""Mutants of the first invariant: what leaves a replica before its record is durable (protocol 2, 4.5)."""

from __future__ import annotations

from typing import Final

from mutation import Mutant, Patch

_COMMIT: Final = "epaxos.protocol.commit"
_RECOVERY: Final = "epaxos.protocol.recovery"
_REPLICA: Final = "epaxos.simulation.replica"

ANSWERS: Final = (
    Mutant(
        "pre-accept-ok-not-durable",
        "a PreAcceptOK leaves before its record is durable",
        "2.1",
        (
            Patch(
                _COMMIT,
                "state.promise((sender,), PreAcceptOK(message.id, deps, instance.seq))",
                "state.send((sender,), PreAcceptOK(message.id, deps, instance.seq))",
            ),
        ),
    ),
    Mutant(
        "accept-ok-not-durable",
        "an AcceptOK leaves before its record is durable",
        "2.1",
        (
            Patch(
                _COMMIT,
                "state.promise((sender,), AcceptOK(message.id, message.ballot))",
                "state.send((sender,), AcceptOK(message.id, message.ballot))",
            ),
        ),
    ),
    Mutant(
        "recover-ok-not-durable",
        "a RecoverOK leaves before its record is durable",
        "2.1",
        (Patch(_RECOVERY, "state.promise((sender,), answer)", "state.send((sender,), answer)"),),
    ),
)

_EARLY_PRE_ACCEPT: Final = Patch(
    _COMMIT,
    "state.promise(tuple(leading.contacted), PreAccept(place, command, deps, seq))",
    "state.send(tuple(leading.contacted), PreAccept(place, command, deps, seq))",
)

OWNER: Final = (
    Mutant(
        "pre-accept-not-durable",
        "the owner's PreAccept leaves before its record is durable, and a restart uses the slot again",
        "3.3",
        (_EARLY_PRE_ACCEPT,),
    ),
    Mutant(
        "pre-accept-not-durable-no-reuse",
        "the same; slots come from a range reserved before, and none is used again",
        "3.4",
        (
            _EARLY_PRE_ACCEPT,
            Patch(
                _REPLICA, "        self.starts = 0\n", "        self.starts = 0\n        self._ceiling = -1\n"
            ),
            Patch(
                _REPLICA,
                "        self.machine = StateMachine(LIMITS, _no_sleep)\n",
                "        self.core._commit.reserve(self._ceiling)\n"
                "        self.machine = StateMachine(LIMITS, _no_sleep)\n",
            ),
            Patch(
                _REPLICA,
                "        self.fuse = None\n        self.count()\n",
                "        self.fuse = None\n"
                "        self._ceiling = self.core._commit._next_slot - 1\n"
                "        self.count()\n",
            ),
        ),
    ),
    Mutant(
        "fast-commit-not-durable",
        "a fast decision is announced before it is durable at the owner",
        "4.5",
        (
            Patch(
                _COMMIT,
                "            state.effects.deferrable.append((holders, Commit",
                '            early = leading.path == "fast"\n'
                "            channel = state.effects.messages if early else state.effects.deferrable\n"
                "            channel.append((holders, Commit",
            ),
        ),
    ),
)
