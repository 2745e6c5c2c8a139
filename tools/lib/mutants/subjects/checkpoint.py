"""Mutants of checkpoints: cuts, truncation, adoption, and a restart from them (protocol 3.6, 4.10, 4.11)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_CHECKPOINT: Final = "epaxos.protocol.epaxos.checkpoint"
_EPAXOS: Final = "epaxos.protocol.epaxos.core"
_GATHERING: Final = "epaxos.protocol.epaxos.gathering"
_KEEPER: Final = "epaxos.checkpoint.keeper"
_RECOVERY: Final = "epaxos.protocol.epaxos.recovery"
_LINKS: Final = "epaxos.simulation.world.links"
_REPLICA: Final = "epaxos.simulation.world.replica"
_RESTART: Final = "epaxos.protocol.epaxos.restart"
_SESSIONS: Final = "epaxos.statemachine.sessions"
_STATE: Final = "epaxos.protocol.epaxos.state"
_TRANSFER: Final = "epaxos.checkpoint.transfer"
_MIXED_TESTS: Final = "tests/unit/checkpoint/test_mixed.py::"
_VALIDATION: Final = "epaxos.protocol.epaxos.validation"
_ADOPTION_TESTS: Final = "tests/unit/protocol/test_adoption.py::"
_WRITER_TESTS: Final = "tests/unit/checkpoint/test_writer.py::"
_WRITER: Final = "epaxos.checkpoint.writer"
_BLOCKS_TESTS: Final = "tests/unit/checkpoint/test_blocks.py::"
_STORE: Final = "epaxos.statemachine.store"
_VALUES: Final = "epaxos.statemachine.values"
_CUTS_TESTS: Final = "tests/unit/checkpoint/test_cuts.py::"

NOT_KEPT: Final = Draw(
    "absences, nothing kept, n=3",
    replicas=3,
    faults="pause,partition",
    options=(("lasting", False), ("checkpoint", 0.05), ("checkpoint_size", 1), ("retain", 1)),
)
"""Replicas whose checkpoints are written only when one that was away asks for them."""

AWAY: Final = Draw(
    "long absences, n=3",
    replicas=3,
    operations=12,
    faults="loss,reorder,crash,partition,pause",
    times=(("patience", 4.0), ("phase", 150.0), ("checkpoint", 3.0), ("think", 3.0)),
    options=(
        ("troubles", 8),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 2),
        ("chunk", 200),
        ("keys", 2),
    ),
)
"""Replicas that are cut off, or down, while the others execute, write checkpoints and keep nothing."""

LATE: Final = Draw(
    "late answers to the dead, n=3",
    replicas=3,
    operations=40,
    faults="reorder,death",
    slow=("PreAcceptOK",),
    times=(("phase", 20.0), ("think", 1.0), ("patience", 60.0)),
    options=(
        ("dead", 1),
        ("comeback", 1.0),
        ("acquainted", True),
        ("aggregate", False),
        ("keys", 50),
        ("hot", 0.0),
        ("max_instances", 64),
    ),
)
"""Answers that arrive when the replica that they are for has come back without its disk."""

SLICES: Final = AWAY._replace(
    name="long absences, small slices, n=3",
    options=(
        *(option for option in AWAY.options if option[0] != "keys"),
        ("keys", 5),
        ("hot", 0.0),
        ("slice", 1),
    ),
)
"""The same, with checkpoints of many slices."""

BUSY: Final = Draw(
    "slow rounds and disks, n=3",
    replicas=3,
    operations=16,
    faults="loss,reorder,crash,partition,pause,disk",
    times=(
        ("patience", 6.0),
        ("phase", 150.0),
        ("checkpoint", 1.0),
        ("think", 2.0),
        ("cpu", 0.4),
        ("disk_delay", 2.0),
    ),
    options=(
        ("troubles", 8),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("chunk", 200),
        ("keys", 2),
        ("disk", "pipelined"),
    ),
)
"""Much happens while a checkpoint is written, and committing it takes long."""

EMPTIED: Final = Draw(
    "restarts with an empty log, n=3",
    replicas=3,
    operations=12,
    faults="crash",
    times=(("patience", 20.0), ("phase", 150.0), ("checkpoint", 1.0), ("think", 6.0)),
    options=(("troubles", 8), ("retain", 0), ("checkpoint_size", 1), ("keys", 50), ("hot", 0.0)),
)
"""Replicas come back to what their checkpoint says alone: nothing conflicts, and nothing that has executed is kept."""

SIFTED: Final = Draw(
    "restarts, blocks sifted each time, n=3",
    replicas=3,
    operations=24,
    faults="crash,pause",
    times=(("patience", 20.0), ("phase", 150.0), ("checkpoint", 1.0), ("think", 3.0)),
    options=(
        ("troubles", 6),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("slice", 2),
        ("growth", 1),
        ("keys", 3),
    ),
)
"""Replicas come back to checkpoints whose older blocks have been sifted of all that later ones have."""

UNHEARD: Final = Draw(
    "proposals that few hear of, n=5",
    replicas=5,
    operations=4,
    faults="loss,reorder,crash,death",
    muted=("PreAccept", "Commit"),
    times=(
        ("patience", 4.0),
        ("phase", 150.0),
        ("checkpoint", 0.5),
        ("beacon", 40.0),
        ("offline", 120.0),
        ("fast_path", 1.0),
    ),
    options=(
        ("troubles", 6),
        ("dead", 1),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("keys", 1),
        ("mix", "writes"),
        ("thrifty", False),
    ),
)
"""Recoveries whose quorum has executed and dropped what speaks against a proposal."""

TRUNCATION: Final = (
    Mutant(
        "truncate-before-durable",
        "what is in a cut is dropped from the log before that cut is durable",
        "4.10",
        Patch(
            _KEEPER,
            "            self._phase = _Phase.COMMITTING\n            todo.commit = True\n",
            "            self._phase = _Phase.COMMITTING\n            todo.commit = True\n"
            "            self._durable, self._truncated = self.writer.executed, ()\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "truncate-beyond-frontier",
        "the log is dropped up to whatever has executed, over what has not",
        "4.10",
        Patch(_CHECKPOINT, "            if not covers(executed, place):\n                break\n", ""),
        draw=AWAY,
    ),
    Mutant(
        "known-not-written",
        "a checkpoint holds what has executed, and not what is known beside that",
        "3.6a",
        Patch(
            _CHECKPOINT,
            "            yield News((said,), ())\n",
            "            yield News((), ())\n",
        ),
        schedule=_WRITER_TESTS + "test_what_is_known_of_an_annulled_command_is_not_sifted_out",
    ),
    Mutant(
        "known-not-loaded",
        "a restart or an adoption takes what has executed out of a checkpoint, and does not know it",
        "3.6a",
        Patch(_CHECKPOINT, "        known.raise_column(at, keys, slots)\n", ""),
        draw=AWAY,
    ),
    Mutant(
        "known-dropped",
        "the known index speaks only of what is in the log",
        "3.6a",
        Patch(
            _CHECKPOINT,
            "        state.logs.truncate(frontier)\n        state.effects.truncate = frontier\n",
            "        state.logs.truncate(frontier)\n        state.effects.truncate = frontier\n"
            "        state.conflicts = type(state.conflicts)(state.n)\n"
            "        for instances in state.logs.rows:\n"
            "            for instance in instances.values():\n"
            "                if instance.orig is not None:\n"
            "                    state.conflicts.add(instance.id, instance.orig)\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "executed-from-known",
        "the index of executed commands has all known payloads, annulled ones too",
        "3.6c",
        Patch(
            _GATHERING,
            "            return self.lost.add(place, payload)\n",
            "            self._state.executed.add(place, payload)\n"
            "            return self.lost.add(place, payload)\n",
        ),
        draw=UNHEARD,
    ),
    Mutant(
        "validate-blind",
        "Validate does not speak of what has executed and was dropped",
        "3.6b",
        Patch(
            _VALIDATION,
            "    for found in executed_above(state, place, command, deps):\n"
            "        yield found, Phase.COMMITTED\n",
            "",
        ),
        draw=UNHEARD,
        harmless="with f=e=1 an owner and one other who pre-accepted its proposal unchanged are two of three, "
        "as those of the other instance are: one replica saw both, and had one cover the other",
    ),
    Mutant(
        "wait-blind",
        "a recovery that waits takes what was dropped for annulled",
        "4.7 cases 10, 11; 4.10",
        Patch(
            _RECOVERY,
            "                if executed_above(self._state, place, proposal.command, proposal.deps):\n"
            '                    self._annul(recovery, "case 10: executed against")\n'
            "                    return\n",
            "",
        ),
        schedule=_ADOPTION_TESTS + "test_what_has_executed_and_is_dropped_tells_a_recovery_that_waits_for_it",
    ),
)

CONTENTS: Final = (
    Mutant(
        "frontier-of-older-cut",
        "a checkpoint has the frontier of the one before",
        "4.10",
        Patch(
            _WRITER,
            "meta_row(meta)])",
            "meta_row(meta._replace(executed=self.executed or executed))])",
        ),
        draw=AWAY,
    ),
    Mutant(
        "frontier-without-values",
        "a checkpoint has a new frontier and no new values",
        "4.10",
        Patch(
            _WRITER,
            "                self._stage([self._values.add(value_block(keys, values))])\n",
            "                del keys, values\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "prepared-and-lost",
        "what was gathered before a cut is in no checkpoint",
        "4.10",
        Patch(
            _CHECKPOINT,
            "        gathering.backlog = state.executions.cut()\n",
            "        gathering = Gathering(state, state.executions.cut(), self._keep)\n",
        ),
        schedule=_WRITER_TESTS + "test_what_was_taken_in_before_a_cut_is_in_its_checkpoint_as_it_was_then",
    ),
    Mutant(
        "read-off-what-has-not-executed",
        "a copy of what is known stands for what has executed, whatever has been annulled or has not executed in it",
        "3.6c, 4.10",
        Patch(
            _GATHERING,
            "        return all(map(le, self._slots, executed))\n",
            "        return bool(executed)\n",
        ),
        schedule=_CUTS_TESTS + "test_what_is_read_off_is_what_gathering_comes_to",
    ),
    Mutant(
        "read-off-below-a-base",
        "keys that are left out of what is known, for the base of a collection, have not executed either",
        "4.10, 4.13",
        Patch(_GATHERING, " and all(map(le, self._base, self._since))\n", "\n"),
        schedule="tests/unit/protocol/test_checkpoint.py::test_below_a_base_nothing_is_read_off",
    ),
    Mutant(
        "read-off-from-the-beginning",
        "what is known from before the last cut is taken for executed since",
        "3.6c, 4.10",
        Patch(
            _GATHERING,
            "join(read.index, since, self._since, most, ",
            "join(read.index, since, nothing, most, ",
        ),
        schedule=_CUTS_TESTS + "test_what_is_read_off_is_what_gathering_comes_to",
    ),
    Mutant(
        "values-released-early",
        "the values of a cut are let go of before they are written",
        "decision 0022",
        Patch(
            _WRITER,
            "        for some in in_blocks(chain.from_iterable(self._written)",
            "        self._machine.release()\n        for some in in_blocks(chain.from_iterable(self._written)",
        ),
        schedule=_WRITER_TESTS + "test_what_was_taken_in_before_a_cut_is_in_its_checkpoint_as_it_was_then",
    ),
    Mutant(
        "sessions-not-written",
        "a checkpoint has no sessions",
        "4.10",
        Patch(_WRITER, "            self._stage(list(map(session_row, sessions)))\n", ""),
        draw=AWAY,
    ),
    Mutant(
        "first-slice-only",
        "of the values and the index of a checkpoint the first slice is written",
        "4.10, decision 0010",
        Patch(
            "epaxos.checkpoint.rows",
            "    while some := list(islice(iterator, size)):\n",
            "    if some := list(islice(iterator, size)):\n",
        ),
        draw=SLICES,
    ),
    Mutant(
        "overwritten-after-cut",
        "a value that is overwritten while a checkpoint is written goes into it as it is then",
        "decision 0022",
        Patch(
            _VALUES,
            "        for aside in reversed(self._aside):\n            values = map(aside.get, keys, values)\n",
            "",
        ),
        draw=SIFTED,
    ),
    Mutant(
        "gone-comes-back",
        "a checkpoint says nothing of keys that have gone",
        "decision 0022",
        Patch(
            _WRITER,
            "            for keys, values in _parted(some, self._frozen.values(some)):\n",
            "            there = [key for key in some if self._frozen.values([key]) != [None]]\n"
            "            for keys, values in _parted(there, self._frozen.values(there)) if there else ():\n",
        ),
        schedule=_WRITER_TESTS + "test_a_key_that_has_gone_stays_gone_while_its_blocks_are_sifted",
    ),
    Mutant(
        "equal-entries-stay",
        "of entries of a key that are equal all stay, and count as needed",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "            is_new = is_wanted and key not in met\n",
            "            is_new = is_wanted\n",
        ),
        schedule=_WRITER_TESTS
        + "test_a_value_that_is_written_again_and_again_stands_a_few_times_in_a_checkpoint",
    ),
    Mutant(
        "later-block-sifted",
        "blocks are sifted of what stands, not of what a later one has",
        "decision 0022",
        Patch(_CHECKPOINT, "map(eq if index is state.executed else gt, ", "map(gt, "),
        draw=SIFTED,
    ),
    Mutant(
        "aside-not-of-columns",
        "a column of writes puts nothing aside for the checkpoint that is being written",
        "decision 0022",
        Patch(
            _STORE,
            "            self._put_aside(keys)\n            self._data.update(",
            "            self._data.update(",
        ),
        schedule=_BLOCKS_TESTS + "test_what_is_overwritten_in_whatever_way_is_put_aside_first",
    ),
    Mutant(
        "aside-not-of-mixed",
        "a mixed column of plain commands puts nothing aside for the checkpoint that is being written",
        "decision 0022",
        Patch(
            _STORE,
            "        self._put_aside(keys)\n        outcomes, values, _ = self",
            "        outcomes, values, _ = self",
        ),
        schedule=_BLOCKS_TESTS + "test_what_is_overwritten_in_whatever_way_is_put_aside_first",
    ),
    Mutant(
        "aside-not-of-others",
        "what is not plain puts nothing aside for the checkpoint that is being written",
        "decision 0022",
        Patch(
            _STORE,
            "            self._put_aside(keys)\n            argument = None",
            "            argument = None",
        ),
        Patch(
            _STORE,
            "        self._put_aside(keys)\n        room = self._read_room",
            "        room = self._read_room",
        ),
        schedule=_BLOCKS_TESTS + "test_what_is_overwritten_in_whatever_way_is_put_aside_first",
    ),
    Mutant(
        "aside-not-of-lone-puts",
        "what is put by itself, as records of transactions are, puts nothing aside",
        "decision 0022",
        Patch(_VALUES, "        self._put_aside((key,))\n", ""),
        schedule="tests/unit/statemachine/test_store.py::test_what_is_put_by_itself_is_put_aside_first",
    ),
    Mutant(
        "aside-not-of-parts",
        "a MULTI puts nothing aside for the checkpoint that is being written",
        "decision 0022",
        Patch(
            _STORE,
            "        self._put_aside(keys)\n        before = dict(",
            "        before = dict(",
        ),
        schedule=_BLOCKS_TESTS + "test_what_is_overwritten_in_whatever_way_is_put_aside_first",
    ),
    Mutant(
        "aside-later",
        "of values of a key that were put aside in several parts the last one goes into the checkpoint",
        "decision 0022",
        Patch(_VALUES, "for aside in reversed(self._aside):", "for aside in self._aside:"),
        schedule="tests/unit/statemachine/test_store.py::"
        "test_what_was_put_aside_in_several_parts_is_what_stood_at_first",
    ),
    Mutant(
        "named-before-the-cut",
        "a key that was written before the cut before is not among what this one has written",
        "4.10, decision 0022",
        Patch("epaxos.protocol.epaxos.conflicts", "repeat(since[row]))", "repeat(-1))"),
        schedule="tests/unit/protocol/test_conflicts.py::test_what_joins_part_by_part_is_named_and_known",
    ),
    Mutant(
        "written-as-raised",
        "a key whose slot is not raised is not among what a cut has written",
        "4.10, decision 0022",
        Patch(
            "epaxos.protocol.epaxos.conflicts",
            "                index.update(some)\n",
            "                written = list(filter(some.__contains__, written))\n"
            "                index.update(some)\n",
        ),
        schedule="tests/unit/protocol/test_conflicts.py::test_what_joins_part_by_part_is_named_and_known",
    ),
    Mutant(
        "row-not-written",
        "what the instances of one row wrote goes into the index, and into no checkpoint",
        "4.10, decision 0022",
        Patch(
            "epaxos.protocol.epaxos.conflicts",
            "written: Reversible[bytes] = some if names else ()\n",
            "written: Reversible[bytes] = some if names and row else ()\n",
        ),
        schedule=_CUTS_TESTS + "test_each_of_many_checkpoints_is_of_its_moment",
    ),
    Mutant(
        "given-up-keys-forgotten",
        "what a checkpoint that was given up had of changes is in no later one",
        "decision 0022",
        Patch(
            _WRITER,
            "        self.close()\n        self._machine.thaw()\n",
            "        self.close()\n        self._keys, self._written = [], []\n        self._machine.thaw()\n",
        ),
        schedule=_BLOCKS_TESTS + "test_what_a_checkpoint_had_that_was_given_up_is_in_the_next_one",
    ),
    Mutant(
        "blocks-never-sifted",
        "after a restart there is never too much",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "        self._limit = sum(self._rows.values())\n",
            "        self._limit = 2**60\n",
        ),
        schedule=_BLOCKS_TESTS + "test_a_checkpoint_takes_a_few_times_what_it_holds",
    ),
    Mutant(
        "growth-by-entries",
        "blocks are sifted once there are many of them, whatever they weigh",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "        if sum(self._rows.values()) <= self._bound(needed):\n",
            "        if len(self._rows) <= 64:\n",
        ),
        schedule=_BLOCKS_TESTS + "test_a_checkpoint_takes_a_few_times_what_it_holds",
    ),
    Mutant(
        "joined-without-bound",
        "blocks are joined whatever they weigh",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "            if len(joined) >= self._size or weight >= BLOCK_BYTES:\n",
            "            if len(joined) >= self._size:\n",
        ),
        schedule=_BLOCKS_TESTS + "test_no_step_makes_much_more_than_a_block_of_bytes",
    ),
    Mutant(
        "values-in-one-step",
        "all blocks of a slice of values are staged in one step",
        "decision 0022",
        Patch(
            _WRITER,
            "                self._stage([self._values.add(value_block(keys, values))])\n"
            "                yield\n",
            "                self._stage([self._values.add(value_block(keys, values))])\n            yield\n",
        ),
        schedule=_BLOCKS_TESTS + "test_no_step_makes_much_more_than_a_block_of_bytes",
    ),
    Mutant(
        "first-of-two-stays",
        "of two slots of a key in a block the lower one stays",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "zip(reversed(keys), reversed(wanted), strict=True):",
            "zip(keys, wanted, strict=True):",
        ),
        Patch("epaxos.checkpoint.blocks", "        return new[::-1]\n", "        return new\n"),
        schedule=_BLOCKS_TESTS + "test_what_a_block_knows_of_a_key_twice_counts_by_the_later_slot",
    ),
    Mutant(
        "large-equal-values-stay",
        "equal values in blocks of their own stay until there are many of them for all the keys",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "if self._is_repeated or len(blob) > BLOCK_BYTES // 2:",
            "if self._is_repeated:",
        ),
        schedule=_BLOCKS_TESTS + "test_a_checkpoint_takes_a_few_times_what_it_holds",
    ),
    Mutant(
        "large-blocks-rewritten",
        "blocks of few large values are written anew in each sift, though all of them stand",
        "decision 0022",
        Patch(
            "epaxos.checkpoint.blocks",
            "len(keys) > self._size // 2 or len(blob) > BLOCK_BYTES // 2",
            "len(keys) > self._size // 2",
        ),
        schedule=_BLOCKS_TESTS + "test_a_block_of_few_large_values_that_all_stand_is_left_alone",
    ),
    Mutant(
        "session-captured-late",
        "a session that changes after the cut is written as it is then",
        "decision 0010",
        Patch(
            _SESSIONS,
            "        if client in self._frozen:\n"
            "            self._frozen.remove(client)\n"
            "            self._captured.append(self._export(client))\n",
            "",
        ),
        draw=BUSY,
    ),
    Mutant(
        "asked-for-in-part",
        "who keeps nothing gives a peer that asks what has changed since the last cut, not all",
        "4.10, decision 0022",
        Patch(
            _WRITER,
            "            yield from self._begin_whole()\n            self._written += names\n",
            "            pass\n",
        ),
        draw=NOT_KEPT,
    ),
    Mutant(
        "values-after-cut",
        "values and sessions are frozen when they are written, later than the cut",
        "4.10, decision 0010",
        Patch(
            _WRITER,
            "            self._frozen = self._machine.freeze(whole=not self.lasting)\n",
            "",
        ),
        Patch(
            _WRITER,
            "        yield from self._write_rows()\n        meta = Meta(self._configuration, cut.executed",
            "        self._frozen = self._machine.freeze(whole=not self.lasting)\n"
            "        yield from self._write_rows()\n        meta = Meta(self._configuration, cut.executed",
        ),
        draw=AWAY,
    ),
    Mutant(
        "index-ahead-of-cut",
        "the index of executed commands follows the executions, not the cuts: a row of it is ahead of its value",
        "4.10",
        Patch(
            _STATE,
            "self.executions.coming += [self._executed_of(decided) for decided in component]\n",
            "self.executions.coming += [self._executed_of(decided) for decided in component]\n"
            "            for decided in component:\n"
            "                if decided.value is not NOP:\n"
            "                    self.executed.add(decided.id, decided.value)\n",
        ),
        schedule=_ADOPTION_TESTS + "test_the_index_of_a_cut_knows_nothing_that_executed_after_it",
    ),
)

ADOPTION: Final = (
    Mutant(
        "adopted-values-replace",
        "a peer's checkpoint replaces the values, the later ones too",
        "4.10",
        Patch(
            _WRITER,
            "later = comparison.later(names)",
            "later = [True for _ in names]",
        ),
        draw=AWAY,
    ),
    Mutant(
        "adopted-executed-replaces",
        "what has executed at the peer replaces what has executed here",
        "4.10",
        Patch(
            _CHECKPOINT,
            "        frontier = tuple(map(max, before.executed, adopt.executed))\n"
            "        state.executor = Executor(state.n, frontier, [*before.above, *(entry.id for entry in "
            "adopt.entries)])\n",
            "        state.executor = Executor(state.n, adopt.executed, [entry.id for entry in adopt.entries])\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "merge-keeps-earlier",
        "of two values of a key the earlier one is kept",
        "4.10",
        Patch(
            _CHECKPOINT,
            "mine != their and all(map(le, mine, their)) for",
            "mine != their and all(map(ge, mine, their)) for",
        ),
        Patch(
            _CHECKPOINT,
            "if not is_later and not all(map(ge, mine, their)):",
            "if not is_later and not all(map(le, mine, their)):",
        ),
        draw=AWAY,
    ),
    Mutant(
        "first-keys-adopted",
        "of a peer's checkpoint the first slice of keys is merged",
        "4.10, decision 0010",
        Patch(
            "epaxos.checkpoint.fetched",
            "        for key, blob in self._index:\n",
            "        for key, blob in self._index[:1]:\n",
        ),
        draw=SLICES,
    ),
    Mutant(
        "entries-not-adopted",
        "of a peer's checkpoint the entries above its frontier count as executed, and are not taken",
        "4.10",
        Patch(
            _CHECKPOINT,
            "        for entry in adopt.entries:\n"
            "            if not covers(dropped, entry.id):\n"
            "                self._adopt_entry(entry)\n",
            "",
        ),
        draw=AWAY,
    ),
    Mutant(
        "adopted-frontier-too-high",
        "all up to the highest entry of a peer's checkpoint counts as executed",
        "4.10",
        Patch(
            _CHECKPOINT,
            "        frontier = tuple(map(max, before.executed, adopt.executed))\n",
            "        highest = list(map(max, before.executed, adopt.executed))\n"
            "        for entry in adopt.entries:\n"
            "            highest[entry.id.row] = max(entry.id.slot, highest[entry.id.row])\n"
            "        frontier = tuple(highest)\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "adopted-before-durable",
        "the log is dropped for a peer's checkpoint before the merged one is durable",
        "4.10",
        Patch(_KEEPER, "            todo.events.append(adopt_event(self._fetch.fetched))\n", ""),
        Patch(
            _KEEPER,
            "            self._phase = _Phase.COMMITTING\n            todo.commit = True\n",
            "            self._phase = _Phase.COMMITTING\n            todo.commit = True\n"
            "            if self._adopting and self._fetch is not None:\n"
            "                todo.events.append(adopt_event(self._fetch.fetched))\n",
        ),
        draw=BUSY,
    ),
    Mutant(
        "overtaken-not-proposed",
        "clients that wait for what has executed in a peer's checkpoint get no answer from their replica",
        "4.10",
        Patch(
            _CHECKPOINT,
            "        state.effects.overtaken = self._overtaken(",
            "        self._overtaken(",
        ),
        draw=AWAY,
    ),
    Mutant(
        "several-reads-recalled",
        "what reads several keys is answered from a merged state, which is of no one moment",
        "4.10",
        Patch(
            "epaxos.statemachine.machine",
            "            if not prefix and _reads_several(batch, reads):\n                return None\n",
            "",
        ),
        schedule="tests/unit/statemachine/test_machine.py::"
        "test_a_command_that_reads_several_keys_is_not_recalled_from_a_state_in_no_order",
    ),
    Mutant(
        "overtaken-answered-in-part",
        "a replica answers from its sessions what has executed in part, and executes the rest by itself",
        "4.10",
        Patch(
            "epaxos.statemachine.sessions",
            "        return None if session is None or session.missing(first, end) else session\n",
            "        return session\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "recoveries-beside-merge",
        "a recovery goes on while a peer's checkpoint is merged, and judges by the index of both",
        "4.10",
        Patch(
            _CHECKPOINT,
            "        for place in [place for place in self._recovery.recoveries if state.is_held(place)]:\n"
            "            self._recovery.forget(place)\n",
            "",
        ),
        schedule=_ADOPTION_TESTS
        + "test_a_recovery_does_not_judge_by_what_a_peer_has_executed_with_its_own_instance",
    ),
    Mutant(
        "held-answered",
        "messages are answered about an instance in a checkpoint that is being merged",
        "4.10",
        Patch(_EPAXOS, "            return self.state.is_held(place)\n", "            return False\n"),
        schedule=_WRITER_TESTS + "test_nothing_is_promised_that_the_merged_checkpoint_will_not_remember",
    ),
    Mutant(
        "own-payloads-not-written",
        "an adopted checkpoint is written without the keys of payloads that only this replica knows",
        "3.2, 3.6a",
        Patch(
            _WRITER,
            "            self._note([said])\n            yield\n        yield from self._absorb(cut)\n",
            "            yield\n        yield from self._absorb(cut)\n",
        ),
        schedule=_WRITER_TESTS + "test_a_payload_is_remembered_that_the_peer_annulled_without_knowing_it",
    ),
    Mutant(
        "checkpoints-mixed",
        "a transfer that the source begins anew goes on with the rows of another checkpoint",
        "decision 0011",
        Patch(
            _TRANSFER,
            "origin = 1 + self._number() % _ORIGINS",
            "origin = 1",
        ),
        schedule=_MIXED_TESTS + "test_a_transfer_that_begins_anew_mixes_no_two_checkpoints",
    ),
)

RESTART: Final = (
    Mutant(
        "promise-not-recorded",
        "a promise to a recoverer is not written down",
        "2, 4.11",
        Patch(
            _RECOVERY,
            "        self._state.hear_of_instance(instance.id)\n        self._state.record(instance)\n",
            "        self._state.hear_of_instance(instance.id)\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "promise-forgotten",
        "a restart forgets what was promised and not voted for",
        "4.11",
        Patch(
            _RESTART,
            "        logs.rows[record.id.row][record.id.slot] = record\n",
            "        logs.rows[record.id.row][record.id.slot] = record\n        record.bal = record.abal\n",
        ),
        draw=AWAY,
    ),
    Mutant(
        "cut-not-heard-of",
        "a restart uses slots again of which only the checkpoint knows",
        "4.11a",
        Patch(_RESTART, "    state.hear_of(durable.executed)\n", ""),
        draw=EMPTIED,
    ),
    Mutant(
        "annulled-payload-forgotten",
        "a restart on the way to an adopted checkpoint forgets the payload of what the peer annulled",
        "3.2, 4.11",
        Patch(
            _RESTART,
            "            entry.orig = known.orig\n",
            "            pass\n",
        ),
        schedule=_ADOPTION_TESTS
        + "test_a_payload_that_only_this_replica_knows_outlives_the_entry_that_annuls_it",
    ),
    Mutant(
        "forgetful-believed",
        "peers listen to a replica that has come back as another incarnation",
        "4.11c, decision 0005",
        Patch(
            _LINKS,
            "        known = self._incarnations.setdefault(sender, stamp.incarnation)\n",
            "        known = self._incarnations[sender] = stamp.incarnation\n",
        ),
    ),
    Mutant(
        "addressee-ignored",
        "a replica that has come back as another incarnation takes answers to the one before for its own",
        "4.11c, decision 0005",
        Patch(
            _LINKS,
            "        if stamp.addressee not in (None, self._incarnation):\n",
            "        if stamp.addressee == -1:\n",
        ),
        draw=LATE,
    ),
    Mutant(
        "disk-lost",
        "a replica that has lost its disk comes back, and votes",
        "4.11c",
        Patch(
            _REPLICA,
            "        era = self._run_in(self._read_memory())\n",
            "        if self.starts > 1:\n"
            "            self.disk = self._make_disk()\n"
            "            self.disk.incarnations = {known: known for known in range(self._options.replicas)}\n"
            "        era = self._run_in(self._read_memory())\n",
        ),
        draw=AWAY,
    ),
)
