"""Bugs of Paxos commit: votes that are not what they seem, and transactions that do not end."""

from __future__ import annotations

from typing import Final

from mutants.mutation import TRANSACTIONS, Mutant, Patch

_CORE: Final = "epaxos.protocol.commit"
_WORLD: Final = "epaxos.simulation.commit"

_LATE: Final = "            cells |= zip(missing, (yield swaps), strict=True)\n"
_CHECK: Final = """    cells = yield from _learn(transaction, known)
    [stands] = yield [Read(key_of(transaction.id))]
    if not _is_open(transaction, stands):
        yield [Remove(_keys(transaction))]  # it was open: what stands there now was cast when it was over
        return (yield from _let_go(transaction, here))
"""
_VOTES: Final = "votes = {name: _read_cell(key_of(transaction.id, name), cells[name])[0] for name in "


def _mutant(name: str, bug: str, *patches: Patch) -> Mutant:
    return Mutant(f"transaction-{name}", bug, "commit", *patches, draw=TRANSACTIONS)


VOTES: Final = (
    _mutant(
        "participants-inferred",
        "those whose votes are there are taken for all that take part",
        Patch(_CORE, _LATE, "            break\n"),
        Patch(_CORE, f"{_VOTES}transaction.resources}}", f"{_VOTES}cells if cells[name]}}"),
        Patch(
            _CORE,
            "telling = [name for name in here if ",
            "telling = [name for name in here if name in votes and ",
        ),
    ),
    _mutant(
        "time-out-taken-for-an-abort",
        "whose vote does not come in time has aborted, though no such vote is cast",
        Patch(_CORE, _LATE, "            cells |= dict.fromkeys(missing, Vote.ABORTED.value)\n"),
    ),
    _mutant(
        "vote-overwritten",
        "a vote for somebody who is late replaces the one that has come meanwhile",
        Patch(
            _WORLD,
            "        if found != expected:\n",
            "        if found != expected and new != Vote.ABORTED.value:\n",
        ),
    ),
    _mutant(
        "first-ballot-of-anybody",
        "who casts a vote for somebody that is late takes the first ballot, which is the resource's",
        Patch(
            _CORE,
            "Swap(key_of(transaction.id, name), None, Vote.ABORTED.value)",
            "Swap(key_of(transaction.id, name), None, Vote.ABORTED.value, first=True)",
        ),
    ),
    _mutant(
        "own-vote-believed",
        "the answer is given by what resources said, before it is known what stands",
        Patch(
            _CORE,
            "    return dict(zip(here, cells, strict=True))",
            "    return dict(zip(here, [found.value for found in votes], strict=True))",
        ),
    ),
    _mutant(
        "aborts-after-prepared",
        "a resource that has waited for too long lets go, and asks then",
        Patch(
            _CORE,
            "    [stands] = yield [Read(key_of(transaction.id))]\n"
            "    if not _is_open(transaction, stands):\n"
            "        return (yield from _let_go(transaction, here))\n"
            "    return (yield from conclude(transaction, here, {}))\n",
            "    yield [Tell(name, commit=False) for name in here]\n"
            "    return (yield from conclude(transaction, here, {}))\n",
        ),
    ),
    _mutant(
        "cast-before-prepared",
        "a resource's vote is cast while it prepares",
        Patch(
            _CORE,
            "    votes = yield [Prepare(name) for name in here]\n",
            "    yield [Swap(key_of(transaction.id, name), None, Vote.PREPARED.value) for name in here]\n"
            "    votes = yield [Prepare(name) for name in here]\n",
        ),
    ),
    _mutant(
        "prepared-before-open",
        "resources prepare a transaction that is not open yet, and lose it to somebody who finds nothing",
        Patch(
            _CORE,
            "    yield from begin(transaction)\n    cells = yield from vote(transaction, here, first=True)\n",
            "    cells = yield from vote(transaction, here, first=True)\n    yield from begin(transaction)\n",
        ),
    ),
)

ENDS: Final = (
    _mutant(
        "open-not-looked-at",
        "votes count although the transaction may be over, and they may be those of somebody late",
        Patch(_CORE, _CHECK, _CHECK.partition("    [stands]")[0]),
    ),
    _mutant(
        "forgotten-early",
        "the registers are removed when the resources of one process have been told",
        Patch(
            _CORE,
            "        if not _all_told(transaction, zip(silent, found, strict=True)):\n            return\n",
            "",
        ),
    ),
    _mutant(
        "votes-removed-first",
        "the votes are removed before what says that the transaction is open",
        Patch(
            _CORE,
            "Remove((key_of(transaction.id), *_keys(transaction)))",
            "Remove((*_keys(transaction), key_of(transaction.id)))",
        ),
    ),
    _mutant(
        "told-once",
        "a resource that was told is not told again, and one that prepared since waits for ever",
        Patch(
            _CORE,
            "if votes[name] is not Vote.READ]\n    told",
            "if votes[name] is not Vote.READ and _TOLD not in cells[name]]\n    told",
        ),
    ),
    _mutant(
        "not-let-go",
        "who finds that all is over leaves what has prepared since",
        Patch(
            _CORE,
            "    told = yield [Tell(name, commit=False) for name in here]\n",
            "    told = (yield []) or [True for name in here]\n",
        ),
    ),
    _mutant(
        "opened-again",
        "to open a transaction is tried again, and the first try comes when all is over",
        Patch(_WORLD, "isinstance(todo, Swap | Remove) and", "isinstance(todo, Open | Swap | Remove) and"),
    ),
    _mutant(
        "reader-waited-for",
        "a resource that has only read must be told before a transaction is forgotten, and nobody tells it",
        Patch(
            _CORE,
            "if found is not Vote.READ and name not in heard]",
            "if name not in heard]",
        ),
    ),
)
