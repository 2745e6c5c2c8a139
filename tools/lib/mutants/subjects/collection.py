"""Mutants of collections, and of the sessions that end by them (protocol 4.13)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_CONFLICTS: Final = "epaxos.protocol.epaxos.conflicts"
_CHECKPOINT: Final = "epaxos.protocol.epaxos.checkpoint"
_SESSION: Final = "epaxos.statemachine.session"
_SESSIONS: Final = "epaxos.statemachine.sessions"
_TESTS: Final = "tests/unit/protocol/test_collections.py::"
_WRITER_TESTS: Final = "tests/unit/checkpoint/test_writer.py::"
_REMEMBERED: Final = (
    "tests/unit/checkpoint/test_cuts.py::"
    "test_two_collections_after_all_has_executed_nothing_is_remembered_of_any_key"
)
_VALIDATION: Final = "epaxos.protocol.epaxos.validation"
_WRITER: Final = "epaxos.checkpoint.writer"

ENDING: Final = Draw(
    "sessions that end, n=3",
    replicas=3,
    operations=24,
    faults="loss,reorder,crash,partition,pause,client",
    times=(("patience", 4.0), ("phase", 150.0), ("collect", 6.0), ("checkpoint", 3.0), ("think", 3.0)),
    options=(
        ("troubles", 6),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 2),
        ("chunk", 200),
        ("keys", 2),
        ("client_loss", 0.3),
        ("abandon", 0.0),
        ("mix", "mixed"),
    ),
)
"""Clients that try again until their sessions are over, beside replicas that are away."""

SLOW: Final = ENDING._replace(
    name="sessions that end, slow checkpoints, n=3",
    times=(
        *ENDING.times[:2],
        ("collect", 3.0),
        ("checkpoint", 1.0),
        ("think", 2.0),
        ("cpu", 0.4),
        ("disk_delay", 2.0),
    ),
    options=(*ENDING.options, ("disk", "pipelined"), ("slice", 1)),
)
"""The same, while checkpoints take long."""

SPARSE: Final = Draw(
    "keys that are forgotten, n=3",
    replicas=3,
    operations=30,
    faults="loss,reorder,crash,partition,pause",
    times=(("patience", 4.0), ("phase", 200.0), ("collect", 5.0), ("checkpoint", 2.0), ("think", 2.0)),
    options=(
        ("troubles", 6),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("chunk", 200),
        ("keys", 5),
        ("hot", 0.0),
        ("mix", "mixed"),
    ),
)
"""Keys that nobody touches for a while, collections, and replicas that miss both."""

UNHEARD: Final = Draw(
    "collections that few hear of, n=5",
    replicas=5,
    operations=6,
    faults="loss,reorder,crash,death",
    muted=("PreAccept", "Commit"),
    times=(
        ("patience", 4.0),
        ("phase", 150.0),
        ("checkpoint", 0.5),
        ("beacon", 40.0),
        ("offline", 150.0),
        ("fast_path", 1.0),
        ("collect", 6.0),
    ),
    options=(
        ("troubles", 6),
        ("dead", 1),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("keys", 3),
        ("mix", "writes"),
        ("thrifty", False),
    ),
)
"""Recoveries whose quorum has forgotten what speaks against a proposal, but for a collection."""

CONFLICTS: Final = (
    Mutant(
        "collection-touches-nothing",
        "a collection depends on other collections alone",
        "4.13",
        Patch(
            _CONFLICTS,
            "found = list(map(max, self.highest, self.base, command.base))",
            "found = list(map(max, self.base, command.base))",
        ),
        draw=ENDING,
    ),
    Mutant(
        "collection-unseen",
        "commands do not depend on collections",
        "4.13",
        Patch(
            _CONFLICTS,
            "            self.base[:] = map(max, self.base, command.base)\n"
            "        if command.base is not None or command.writes_all:\n",
            "            pass\n        if command.writes_all:\n",
        ),
        draw=ENDING,
    ),
    Mutant(
        "collection-unseen-by-reads",
        "commands that write nothing do not depend on collections",
        "4.13",
        Patch(
            _CONFLICTS,
            "own=own), self.base))\n",
            "own=own), self.base if command.writes else [-1] * len(self.base)))\n",
        ),
        draw=ENDING,
    ),
    Mutant(
        "base-not-covered",
        "who knows a collection covers it, and not its base",
        "4.13",
        Patch(
            _CONFLICTS,
            "            self.base[:] = map(max, self.base, command.base)\n",
            "            pass\n",
        ),
        draw=ENDING,
    ),
)

SESSIONS: Final = (
    Mutant(
        "late-retry-executes",
        "a command whose session has ended executes in a new one",
        "4.13",
        Patch(
            _SESSIONS,
            "        if client not in self._table and not self.generation - self.window <= generation "
            "<= self.generation:\n            return None\n",
            "",
        ),
        draw=ENDING,
    ),
    Mutant(
        "generation-not-written",
        "a checkpoint does not say how many collections have executed",
        "4.13",
        Patch(_WRITER, "self._core.vectors(), generation)", "self._core.vectors(), 0)"),
        Patch(
            _WRITER,
            "Meta(self._configuration, executed, vectors, self._machine.generation)",
            "Meta(self._configuration, executed, vectors, 0)",
        ),
        draw=ENDING,
    ),
    Mutant(
        "generation-of-later",
        "a checkpoint has the count of collections of the moment when its last row is written",
        "4.10, 4.13",
        Patch(
            _WRITER,
            "Meta(self._configuration, cut.executed, self._core.vectors(), generation)",
            "Meta(self._configuration, cut.executed, self._core.vectors(), self._machine.generation)",
        ),
        draw=SLOW,
    ),
    Mutant(
        "ended-session-merged",
        "a session that has ended here comes back with the checkpoint of a peer that is behind",
        "4.10, 4.13",
        Patch(
            _SESSIONS,
            "            if theirs.last >= self.generation - self.window:\n",
            "            if True:\n",
        ),
        draw=ENDING,
    ),
    Mutant(
        "adopted-generation-ignored",
        "a replica that merges a peer's checkpoint goes on with its own count of collections",
        "4.10, 4.13",
        Patch(
            _SESSIONS,
            "        self._advance(max(other.generation, self.generation))\n",
            "",
        ),
        draw=ENDING,
    ),
    Mutant(
        "last-use-not-merged",
        "a session that a peer has used later than this replica ends with this replica's last use",
        "4.10, 4.13",
        Patch(_SESSION, "        self.last = max(self.last, theirs.last)\n", ""),
        draw=ENDING,
    ),
    Mutant(
        "ended-session-stays-written",
        "a session that has ended stays in the checkpoint",
        "4.13",
        Patch(
            _SESSIONS,
            "            self._changed.add(client)\n            session = self._table.pop(client)\n",
            "            session = self._table.pop(client)\n",
        ),
        draw=ENDING,
    ),
)

KEYS: Final = (
    Mutant(
        "forgotten-above-base",
        "what is remembered of a key is dropped one slot above the base",
        "4.13",
        Patch(_CONFLICTS, "if index.get(key, base + 1) <= base]", "if index.get(key, base + 2) <= base + 1]"),
        draw=SPARSE,
    ),
    Mutant(
        "collection-executed-when-known",
        "what has executed by key is forgotten at a collection that is only known",
        "4.13",
        Patch(
            _CHECKPOINT,
            "        for _ in chain(known.forget(",
            "        executed.raise_vectors(known.base, known.base)\n        for _ in chain(known.forget(",
        ),
        draw=UNHEARD,
    ),
    Mutant(
        "bases-not-written",
        "a checkpoint does not say of collections",
        "4.10, 4.13",
        Patch(
            _WRITER,
            "Meta(self._configuration, cut.executed, self._core.vectors(), generation)",
            "Meta(self._configuration, cut.executed, (), generation)",
        ),
        Patch(
            _WRITER,
            "Meta(self._configuration, executed, vectors, self._machine",
            "Meta(self._configuration, executed, (), self._machine",
        ),
        draw=SPARSE,
    ),
    Mutant(
        "bases-not-adopted",
        "a replica that has merged a peer's checkpoint does not know of the collections in it",
        "4.10, 4.13",
        Patch(_CHECKPOINT, "        state.raise_vectors(adopt.vectors)\n", ""),
        draw=SPARSE,
    ),
    Mutant(
        "version-without-base",
        "the version of a key leaves collections out: absent after one is not later than present before",
        "4.13, decision 0009",
        Patch(
            _CHECKPOINT,
            "    return _above(columns, index.base)\n",
            "    return list(zip(*columns, strict=True))\n",
        ),
        draw=SPARSE,
    ),
    Mutant(
        "forgotten-keys-not-merged",
        "of a peer's checkpoint only those keys are merged of which something is remembered",
        "4.13, decision 0009",
        Patch(
            _WRITER,
            "for keys, done in ((theirs, ()), (self._machine.names(), theirs)):",
            "for keys, done in [(some, ()) for _, some, *_ in fetched.index()]:",
        ),
        draw=SPARSE,
    ),
    Mutant(
        "gone-keys-stay",
        "a key that has gone at the peer, and is forgotten there, stays",
        "4.13, decision 0009",
        Patch(
            _WRITER,
            "for keys, done in ((theirs, ()), (self._machine.names(), theirs)):",
            "for keys, done in ((theirs, ()),):",
        ),
        draw=SPARSE,
    ),
    Mutant(
        "base-not-validated",
        "Validate takes a collection for covered whose base is not",
        "4.13",
        Patch(
            _VALIDATION,
            "    if not covers_base(deps, place.row, state.conflicts.base):\n",
            "    if False:\n",
        ),
        schedule=_TESTS + "test_a_collection_speaks_against_who_covers_it_without_its_base",
    ),
    Mutant(
        "covered-without-base",
        "an instance covers a collection whose base it does not cover",
        "4.13",
        Patch(
            _CONFLICTS,
            "    return covered and (command.base is None or covers_base(deps, row, command.base))\n",
            "    return covered\n",
        ),
        schedule=_TESTS + "test_who_covers_a_collection_without_its_base_speaks_against_it",
    ),
    Mutant(
        "forgotten-at-closure",
        "what has executed is forgotten up to the dependencies of a collection, which cover more than its base",
        "4.13",
        Patch(
            "epaxos.protocol.epaxos.conflicts",
            "value.reads, value.writes, value.base\n",
            "value.reads, value.writes, value.base and deps\n",
        ),
        Patch(
            "epaxos.protocol.epaxos.conflicts",
            "def executed_of(place: InstanceId, value: Value | None) -> Executed:\n",
            "def executed_of(place: InstanceId, value: Value | None, deps: Vector | None = None) -> Executed:\n",
        ),
        Patch(
            "epaxos.protocol.epaxos.state",
            "executed_of(decided.id, decided.value)\n",
            "executed_of(decided.id, decided.value, decided.deps)\n",
        ),
        draw=UNHEARD,
    ),
    Mutant(
        "second-collection",
        "a replica proposes a collection although its last one has not executed",
        "4.13",
        Patch("epaxos.checkpoint.collector", "        self._due = math.inf\n", "        pass\n"),
        schedule="tests/unit/checkpoint/test_collecting.py::"
        "test_a_second_one_is_not_proposed_before_one_has_executed",
    ),
    Mutant(
        "overtaken-collection-lost",
        "a collection that a peer's checkpoint overtakes is not told of, and its proposer waits for ever",
        "4.10, 4.13",
        Patch(
            _CHECKPOINT,
            "            and state.executor.has_executed(instance.id)\n",
            "            and instance.orig.base is None\n"
            "            and state.executor.has_executed(instance.id)\n",
        ),
        schedule=_TESTS + "test_one_that_a_peers_checkpoint_overtakes_is_told",
    ),
    Mutant(
        "forgotten-entries-stay",
        "what is known of an annulled command is kept when it is sifted, though a collection speaks for it",
        "4.13, decision 0022",
        Patch(_CHECKPOINT, " if min(slots) <= base else stand\n", " if min(slots) < -1 else stand\n"),
        schedule=_REMEMBERED,
    ),
    Mutant(
        "forgotten-entries-not-sifted",
        "a checkpoint is not sifted because keys are forgotten",
        "4.13, decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "        if not needed:\n            return 0\n        return self._limit if needed",
            "        return self._limit if True or needed",
        ),
        schedule=_REMEMBERED,
    ),
    Mutant(
        "known-entries-sifted",
        "what is known of a key goes when nothing has executed that touches it",
        "3.6c, decision 0022",
        Patch(_CHECKPOINT, "map(eq if index is state.executed else gt, ", "map(eq, "),
        schedule=_WRITER_TESTS + "test_what_is_known_of_an_annulled_command_is_not_sifted_out",
    ),
    Mutant(
        "gone-keys-not-written",
        "a merged checkpoint does not say of keys that have gone at the peer that they have",
        "4.13, decision 0022",
        Patch(
            _WRITER,
            "self._note_written(self._machine.merge(fetched.values_of(names, later)))",
            "changed = self._machine.merge(fetched.values_of(names, later))\n"
            "                self._note_written(key for key in changed if key in theirs)",
        ),
        schedule=_WRITER_TESTS + "test_a_key_that_a_peer_deleted_and_forgot_stays_gone_after_a_restart",
    ),
    Mutant(
        "equal-values-merged",
        "a merge writes all keys that a collection makes later, also those that have the same value here",
        "4.13, decision 0022",
        Patch(
            "epaxos.statemachine.values",
            "        if same(self._data.get(key), value):\n            return False\n",
            "",
        ),
        schedule=_WRITER_TESTS + "test_a_key_that_a_peer_deleted_and_forgot_stays_gone_after_a_restart",
    ),
    Mutant(
        "forgotten-entries-return",
        "what a checkpoint says of a key at or below a base is remembered again after a restart",
        "4.13",
        Patch(_CONFLICTS, "map(index.get, keys, repeat(self.base[row]))", "map(index.get, keys, repeat(-1))"),
        schedule="tests/unit/protocol/test_conflicts.py::"
        "test_what_a_checkpoint_says_below_a_base_is_not_remembered_again",
    ),
    Mutant(
        "written-filtered-by-base",
        "what executes after a collection that speaks for it is not among what a cut has written",
        "4.13, decision 0022",
        Patch(
            _CONFLICTS,
            "written: Reversible[bytes] = some if names else ()\n",
            "written = [key for key, slot in some.items() if slot > self.base[row]] if names else ()\n",
        ),
        schedule=_WRITER_TESTS
        + "test_what_executes_after_a_collection_that_speaks_for_it_is_in_the_checkpoint",
    ),
    Mutant(
        "vectors-before-rows",
        "a checkpoint says of collections what was known at its cut, and forgets what is known at its end",
        "4.10, 4.13",
        Patch(
            _WRITER,
            "        yield from self._absorb_ended(ended)\n        yield from self._absorb(cut)\n        if not",
            "        vectors = self._core.vectors()\n"
            "        yield from self._absorb_ended(ended)\n        yield from self._absorb(cut)\n        if not",
        ),
        Patch(
            _WRITER,
            "meta = Meta(self._configuration, cut.executed, self._core.vectors(), generation)\n",
            "meta = Meta(self._configuration, cut.executed, vectors, generation)\n",
        ),
        draw=SPARSE,
    ),
)
