"""Mutants of the end of an epoch (protocol 6)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_EXECUTOR: Final = "epaxos.protocol.execution.executor"
_ORDER: Final = "epaxos.protocol.execution.order"
_STATE: Final = "epaxos.protocol.epaxos.state"
_CORE: Final = "epaxos.protocol.epaxos.core"
_COMMIT: Final = "epaxos.protocol.epaxos.commit"
_CONFLICTS: Final = "epaxos.protocol.epaxos.conflicts"
_ERAS: Final = "epaxos.protocol.eras"
_KEEPER: Final = "epaxos.checkpoint.keeper"
_WRITER: Final = "epaxos.checkpoint.writer"
_FETCHED: Final = "epaxos.checkpoint.fetched"
_REPLICA: Final = "epaxos.simulation.world.replica"
_BARRIERS: Final = "tests/unit/protocol/test_barriers.py::"
_ERAS_TESTS: Final = "tests/unit/protocol/test_eras.py::"
_SPECTATOR_TESTS: Final = "tests/unit/protocol/test_spectator.py::"
_END: Final = "tests/unit/protocol/test_end_of_epoch.py::"

REFRESHED: Final = Draw(
    "epochs",
    operations=12,
    faults="loss,duplicate,reorder,partition,crash,death,pause,disk,refresh",
)
"""Few commands, and epochs that end among them."""

MEMBERS: Final = REFRESHED._replace(
    name="epochs of other members",
    faults="loss,duplicate,reorder,partition,crash,death,pause,disk,refresh,member",
)
"""The same, and some join and some are removed."""

OBSERVED: Final = Draw(
    "observers",
    operations=30,
    faults="loss,reorder,partition,pause",
    options=(("observers", 1),),
)
"""Reads at one who follows, and at times lags."""

ABSENT: Final = REFRESHED._replace(
    name="epochs, long absences, n=3",
    replicas=3,
    faults="loss,reorder,partition,crash,pause,refresh",
    times=(("patience", 4.0), ("phase", 200.0), ("checkpoint", 2.0), ("think", 8.0)),
    options=(("troubles", 8), ("dead", 0), ("retain", 0), ("checkpoint_size", 2)),
)
"""Whoever is away misses ends of epochs, and finds their logs dropped."""

DEAD: Final = ABSENT._replace(
    name="epochs, deaths, n=3",
    faults="loss,reorder,partition,crash,death,pause,refresh",
    options=(*ABSENT.options[:1], ("dead", 1), ("comeback", 0.0), *ABSENT.options[2:]),
)
"""The same, and one stops for good."""

PROTOCOLS: Final = ABSENT._replace(
    name="epochs of either protocol, n=3",
    faults="loss,reorder,partition,crash,pause,refresh,protocol",
)
"""The same, and half of the epochs are of another protocol than the one before."""

END: Final = (
    Mutant(
        "barrier-by-number",
        "a barrier executes where its number puts it, and others of its component are void below the cut",
        "6.4",
        Patch(
            _ORDER,
            "return (ends(decided), decided.seq, *decided.id)",
            "return (False, decided.seq, *decided.id)",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "executes-after-the-end",
        "what is decided after the barrier has executed executes too",
        "6.4",
        Patch(
            _EXECUTOR,
            "            return []\n        row = decided.id.row",
            "            pass\n        row = decided.id.row",
        ),
        schedule=_BARRIERS + "test_nothing_executes_after_a_barrier",
    ),
    Mutant(
        "cut-of-the-barrier-alone",
        "the cut lacks what only others of the barrier's component depend on",
        "6.4",
        Patch(_EXECUTOR, "*(decided.deps for decided in component), strict", "component[first].deps, strict"),
        schedule=_BARRIERS + "test_the_cut_covers_places_that_only_others_of_the_component_depend_on",
    ),
    Mutant(
        "dropped-barrier-forgotten",
        "an annulled barrier is covered no more once it is dropped from the log",
        "6.3, 4.10",
        Patch(
            "epaxos.protocol.epaxos.checkpoint",
            "        state.logs.truncate(frontier)\n",
            "        state.logs.truncate(frontier)\n"
            "        base = state.conflicts.base\n"
            "        base[:] = [slot if slot > top else -1 for slot, top in zip(base, frontier)]\n",
        ),
        schedule=_END
        + "test_everything_later_depends_on_an_annulled_barrier_that_was_dropped_also_after_a_restart",
    ),
    Mutant(
        "void-by-time",
        "what waited for the barrier, and is above its cut, executes after it, if it is decided by then",
        "6.4",
        Patch(_EXECUTOR, "while awake and self.over is None:", "while awake:"),
        Patch(_EXECUTOR, "        self._pending.clear()\n", ""),
        draw=REFRESHED,
    ),
    Mutant(
        "log-goes-on",
        "the next epoch begins with the instances of the last one, which other quorums have decided",
        "6.4",
        Patch(
            _REPLICA,
            "        era = self._making.era(configuration, Durable(loaded.records, loaded.truncated, nothing, ()))\n",
            "        logs = getattr(getattr(ended.core, 'state', None), 'logs', None)\n"
            "        kept = [] if logs is None else [it for row in logs.rows for it in row.values()]\n"
            "        records = loaded.records or [copy_record(it) for it in kept]\n"
            "        era = self._making.era(configuration, Durable(records, loaded.truncated, nothing, ()))\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "nothing-known-after-the-end",
        "who has come to the end answers a recovery as if it had never heard of the instance",
        "6.6",
        Patch(
            _CORE,
            '                self.state.cover("silent after the end")\n',
            "                if isinstance(message, Recover):\n"
            "                    nothing = (-1,) * self.state.n\n"
            "                    answer = RecoverOK(\n"
            "                        message.id, message.ballot, 0, Phase.INITIAL, None, nothing, 0, None\n"
            "                    )\n"
            "                    self.state.send((event.sender,), answer)\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "loser-again",
        "a barrier that another one has overtaken is proposed as it is in the next epoch, and followed there",
        "6.5",
        Patch(
            _COMMIT,
            "if command.base is None]",
            "if command.base is None or (command.ends and state.executor.over)]",
        ),
        Patch(_ERAS, "for command in self.left if command.base is None", "for command in self.left"),
        Patch(
            "epaxos.protocol.membership", "            said.epoch == self.epoch + 1\n", "            True\n"
        ),
        Patch(
            "epaxos.protocol.membership",
            "return said if self._may_be_followed_by(said) else self.next(said.request)",
            "return said._replace(epoch=self.epoch + 1) "
            "if self._may_be_followed_by(said) else self.next(said.request)",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "counted-by-row",
        "an answer counts for the row in which its sender voted in the first epoch",
        "6.6",
        Patch(
            _REPLICA,
            "            row = era.row_of(event.sender)\n",
            "            row = event.sender if event.sender < len(era.hosts) else era.row_of(event.sender)\n",
        ),
        draw=MEMBERS,
    ),
    Mutant(
        "left-counted-by-row",
        "who has been removed counts those who sat in the rows of the next epoch, not those who sit there now",
        "6.10",
        Patch(
            _ERAS,
            "for name in running.names)\n        return there",
            "for name in (max(self.ended.items())[1].configuration if self.ended else running).names)\n"
            "        return there",
        ),
        schedule=_ERAS_TESTS + "test_who_was_removed_leaves_once_so_many_have_come_that_can_go_on_alone",
    ),
    Mutant(
        "configuration-after-records",
        "who votes in an epoch becomes durable after the first of its records",
        "6.8",
        Patch(
            "epaxos.storage.journal",
            "            self._engine.write_log([*self._taken(), *self._writer.entries(records)])\n",
            "            known = self._taken() if getattr(self, 'told', 0) == self._configuration.epoch else []\n"
            "            self.told = self._configuration.epoch\n"
            "            self._engine.write_log([*known, *self._writer.entries(records)])\n",
        ),
        schedule="tests/unit/storage/test_journal.py::"
        "test_the_next_epoch_begins_with_its_first_record_and_counts_on",
    ),
    Mutant(
        "meta-last",
        "a checkpoint says last of which epoch it is, and by how many rows its vectors are wide",
        "6.7",
        Patch("epaxos.checkpoint.rows", 'b"a", b"i", b"M", b"s", b"v"', 'b"a", b"i", b"z", b"s", b"v"'),
        schedule="tests/unit/checkpoint/test_fetched.py::"
        "test_nothing_may_come_before_what_is_known_of_the_whole",
    ),
    Mutant(
        "two-epochs-in-one-commit",
        "a checkpoint that is being written when its epoch ends says that it is of the next one",
        "6.7",
        Patch(
            _WRITER,
            "        self._coming.append((configuration, core))\n",
            "        self._coming.append((configuration, core))\n"
            "        self._configuration = configuration\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "sent-away-as-failed",
        "clients of who has no vote any more are told that their commands failed, not to ask elsewhere",
        "6.7",
        Patch(
            "epaxos.actors.clients",
            "self.answers.send(identity, Kind.AWAY, (client, 0, -1 if stuck",
            "self.answers.send(identity, Kind.REFUSED if stuck else Kind.AWAY, (client, 0, -1 if stuck",
        ),
        schedule="tests/unit/actors/test_clients.py::"
        "test_who_waits_for_a_replica_that_gives_up_is_sent_away_at_once_and_when_it_asks_again",
    ),
    Mutant(
        "age-not-told",
        "what is read as things stand at a replica does not say how old that is",
        "6.11",
        Patch(
            "epaxos.actors.reads",
            "return [_with_lags(look(batch), readings, lags) for batch, readings in local]",
            "return [look(batch) for batch, readings in local]",
        ),
        schedule="tests/unit/actors/test_reads.py::"
        "test_local_reads_tell_how_far_the_replica_is_behind_if_they_are_asked_to",
    ),
    Mutant(
        "barrier-with-holes",
        "a barrier does not depend on places of its row of which no payload is known",
        "6.3",
        Patch(_STATE, "command.ends and place.row == self.me", "command.ends and place.row < 0"),
        schedule=_END + "test_a_barrier_depends_on_reads_and_on_all_below_it_in_its_row",
    ),
    Mutant(
        "votes-after-the-end",
        "a replica that has executed the barrier goes on voting, perhaps from a log that it has dropped",
        "6.6",
        Patch(
            _CORE,
            "        if state.executor.over is not None:\n            self._on_event_when_over(event)\n",
            "        if state.executor.over is not None and not isinstance(event, Receive):\n"
            "            self._on_event_when_over(event)\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "end-not-echoed",
        "who lags and lost an answer never learns that it may ask again",
        "6.6",
        Patch(
            _CORE,
            "                self.state.send((event.sender,), Echo(message.stamp))",
            "                pass",
        ),
        schedule=_END + "test_a_beacon_is_echoed",
    ),
    Mutant(
        "not-quiet",
        "a replica proposes on in sight of an end: most of it is void",
        "6.5",
        Patch(_COMMIT, "if state.quiet:\n            state.cover(", "if None:\n            state.cover("),
        schedule=_END
        + "test_who_knows_a_barrier_proposes_nothing_until_it_is_annulled_and_then_all_in_order",
    ),
    Mutant(
        "kept-forgotten",
        "what was kept in sight of an end that came is lost",
        "6.4",
        Patch(_COMMIT, "in (*proposed, *self.kept) if", "in proposed if"),
        schedule=_END + "test_the_end_says_what_is_left_over",
    ),
    Mutant(
        "no-closure",
        "an epoch ends when its barrier is decided, whatever that depends on",
        "6.4",
        Patch(
            _EXECUTOR,
            "if all(map(le, decided.deps, self._frontier)):\n",
            "if ends(decided) or all(map(le, decided.deps, self._frontier)):\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "barrier-one-way",
        "a barrier covers what was known, and nothing later covers the barrier",
        "6.3",
        Patch(
            _CONFLICTS,
            "        if command.base is not None:\n            self.base[:] =",
            "        if command.base is not None and not getattr(command, 'ends', False):\n"
            "            self.base[:] =",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "annulled-barrier-forgotten",
        "a barrier is covered no more once its no-op is committed",
        "6.3",
        Patch(
            _STATE,
            "        deps = self.conflicts.deps(command, place.row, own=place.row == self.me)\n",
            "        base, every = self.conflicts.base[:], [i for row in self.logs.rows for i in row.values()]\n"
            "        if any(i.value is NOP and getattr(i.orig, 'ends', False) for i in every):\n"
            "            self.conflicts.base[:] = [-1] * len(base)\n"
            "        deps = self.conflicts.deps(command, place.row, own=place.row == self.me)\n"
            "        self.conflicts.base[:] = base\n",
        ),
        schedule=_END + "test_everything_later_depends_on_a_barrier_also_if_it_was_annulled",
    ),
    Mutant(
        "barrier-above-the-log",
        "a barrier depends on what is in the log, and not on what was dropped",
        "6.3, 4.10",
        Patch(
            _STATE,
            "        deps = self.conflicts.deps(command, place.row, own=place.row == self.me)\n",
            "        deps = self.conflicts.deps(command, place.row, own=place.row == self.me)\n"
            "        if command.ends:\n"
            "            deps = tuple(\n"
            "                min(slot, max(row, default=-1)) for slot, row in zip(deps, self.logs.rows)\n"
            "            )\n",
        ),
        draw=ABSENT,
    ),
    Mutant(
        "barrier-validated-by-the-log",
        "Validate of a barrier does not speak of what has executed and was dropped",
        "6.3, 3.6b",
        Patch(
            "epaxos.protocol.epaxos.validation",
            "        if slot > deps[row] and row != place.row\n",
            "        if slot > deps[row] and row != place.row and not command.ends\n",
        ),
        schedule="tests/unit/protocol/test_checkpoint.py::"
        "test_validate_speaks_of_what_has_executed_and_was_dropped",
    ),
    Mutant(
        "barrier-no-reads",
        "reads do not conflict with a barrier",
        "6.3",
        Patch(
            _CONFLICTS,
            "own=own), self.base))\n",
            "own=own), self.base if command.writes else [-1] * len(self.base)))\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "no-epoch-tag",
        "a message of one epoch is taken for one of another",
        "6.1",
        Patch(
            _ERAS,
            "return self.running if epoch == self.running.epoch else self.ended.get(epoch)",
            "return self.running",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "seal-on-over",
        "who is told that an epoch is over votes no more in it",
        "6.7",
        Patch(
            _CORE,
            "        if state.executor.over is not None:\n            self._on_event_when_over(event)\n",
            "        if state.executor.over is not None or (state.ended and isinstance(event, Receive)):\n"
            "            self._on_event_when_over(event)\n",
        ),
        draw=DEAD,
    ),
    Mutant(
        "laggards-not-told",
        "who lags gets no beacon of its epoch",
        "6.7",
        Patch(_ERAS, "            return [(era, era.core.beacon(now))]\n", "            return []\n"),
        schedule=_ERAS_TESTS + "test_who_lags_gets_the_beacon_of_its_epoch_or_hears_that_it_is_over",
    ),
    Mutant(
        "over-not-told",
        "who lags does not hear that its epoch is over",
        "6.7",
        Patch(_ERAS, "return [(running, EpochOver(max(heard, 0), self._cuts.get(heard)))]", "return []"),
        draw=ABSENT,
    ),
    Mutant(
        "merge-across",
        "a checkpoint of a later epoch is merged key by key",
        "6.7",
        Patch(_KEEPER, "self._replacing = fetched.replaces", "self._replacing = False"),
        draw=ABSENT,
    ),
    Mutant(
        "no-sessions",
        "a checkpoint of a later epoch replaces values, and not sessions",
        "6.7",
        Patch(_FETCHED, "        yield from map(session_row, self._sessions.values())\n", ""),
        draw=ABSENT,
    ),
    Mutant(
        "next-epoch-by-the-file",
        "some replicas run the next epoch by the protocol with which the cluster began",
        "6.9",
        Patch(
            _REPLICA,
            "        configuration = self._eras.following(over)\n",
            "        configuration = self._eras.following(over)\n"
            "        if self.row:\n"
            "            configuration = configuration._replace(protocol=self._options.protocol)\n",
        ),
        draw=PROTOCOLS,
    ),
    Mutant(
        "checkpoint-of-one-protocol",
        "a checkpoint of a later epoch is taken only if that is of the protocol of the own one",
        "6.9",
        Patch(
            "epaxos.protocol.membership",
            "later.epoch <= self.epoch or later.level < self.level",
            "later.epoch <= self.epoch or later.level < self.level or later.protocol != self.protocol",
        ),
        schedule="tests/unit/protocol/test_membership.py::"
        "test_a_configuration_leads_to_all_that_come_of_it_and_to_no_stranger_s",
    ),
    Mutant(
        "epoch-log-dropped-early",
        "the log of an epoch is dropped when it is over, before a checkpoint of a later one is durable",
        "6.8",
        Patch(_KEEPER, "return self.source.oldest(self._durable_epoch)", "return self._epoch"),
        draw=REFRESHED,
    ),
    Mutant(
        "reached-before-durable",
        "a replica goes on in the next epoch before the decisions that lead there are durable",
        "6.8",
        Patch(
            _REPLICA,
            "        self.disk.write(effects.records, partial(self._after_records, era, effects))\n",
            "        self.disk.write(() if effects.over else effects.records, "
            "partial(self._after_records, era, effects))\n",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "old-index-rows",
        "what was remembered of keys in one epoch is read in the next one",
        "6.8",
        Patch(
            _WRITER,
            "            self._obsolete += [row for blocks in self._index for row in blocks.rows]\n",
            "",
        ),
        draw=ABSENT,
    ),
    Mutant(
        "written-before-the-end-forgotten",
        "the first checkpoint of an epoch lacks what was written between the last one and the end",
        "6.8",
        Patch(
            _WRITER,
            "        yield from self._absorb_ended(ended)\n        yield from self._absorb(cut)\n        if not",
            "        yield from self._absorb(cut)\n        if not",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "left-behind",
        "commands that an epoch leaves over are not proposed in the next one",
        "6.7",
        Patch(
            _ERAS,
            "self._begin(era, over.left, retiring=retiring)",
            "self._begin(era, (), retiring=retiring)",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "next-epoch-truncated",
        "the log of the next epoch is dropped up to what had executed in the one before",
        "6.8",
        Patch(_REPLICA, " and era is self._eras.running:  # else", ":  # else"),
        draw=ABSENT,
    ),
    Mutant(
        "thresholds-of-the-first-epoch",
        "a core counts quorums by the thresholds with which the cluster began",
        "6.9",
        Patch(
            "epaxos.simulation.world.making",
            "row=quorums.n if row is None else row, quorums=quorums",
            "row=quorums.n if row is None else row",
        ),
        draw=REFRESHED,
    ),
    Mutant(
        "initial-for-a-lie",
        "who has not pre-accepted a barrier, and so tells of no dependencies, is taken for a liar",
        "6.3",
        Patch(_CORE, "            if message.phase is Phase.INITIAL:", "            if None:"),
        schedule=_END + "test_an_answer_of_who_has_not_pre_accepted_a_barrier_is_none_of_a_liar",
    ),
    Mutant(
        "base-kept-into-the-next-epoch",
        "a collection that is to be proposed again is so in the next epoch too, with slots of the last",
        "6.7",
        Patch(_ERAS, "*(command for command in self.left if command.base is None)", "*self.left"),
        schedule=_ERAS_TESTS + "test_what_is_left_over_goes_on_in_the_next_epoch_without_bases",
    ),
    Mutant(
        "retire-early",
        "who has been removed leaves as soon as it knows that, though the others have not come to the next epoch",
        "6.10",
        Patch(_ERAS, "        return there >= running.n - running.f\n", "        return True\n"),
        schedule=_ERAS_TESTS + "test_who_was_removed_leaves_once_so_many_have_come_that_can_go_on_alone",
    ),
    Mutant(
        "retire-unheard",
        "who has been removed leaves though somebody is heard who does not know of the next epoch",
        "6.10",
        Patch(
            _ERAS,
            "        if any(map(self._misses, self._online)):\n            return False\n",
            "",
        ),
        schedule=_ERAS_TESTS + "test_who_was_removed_leaves_once_so_many_have_come_that_can_go_on_alone",
    ),
    Mutant(
        "retire-at-one",
        "who has been removed leaves as soon as one has come to the next epoch",
        "6.10",
        Patch(_ERAS, "        return there >= running.n - running.f\n", "        return there >= 1\n"),
        schedule=_ERAS_TESTS + "test_who_was_removed_leaves_once_so_many_have_come_that_can_go_on_alone",
    ),
    Mutant(
        "begun-half-loaded",
        "a replica begins anew from a checkpoint of a later epoch before all of it is loaded",
        "6.7",
        Patch(
            _KEEPER,
            "        if self._phase is _Phase.LOADING and self._is_loaded():\n",
            "        if self._phase is _Phase.LOADING and (self._is_loaded() or True):\n",
        ),
        draw=ABSENT,
    ),
    Mutant(
        "earlier-epoch-fetched",
        "who begins to fetch just after an epoch has begun gets the checkpoint of the one before",
        "6.7",
        Patch(_KEEPER, "is_late = self._durable_epoch < self._epoch and", "is_late = False and"),
        schedule="tests/unit/checkpoint/test_keeping.py::"
        "test_who_begins_to_fetch_gets_the_checkpoint_with_which_the_epoch_begins",
    ),
    Mutant(
        "log-left-at-once",
        "who follows the log of a peer leaves it as soon as another one has dropped what is missing",
        "4.10",
        Patch(_KEEPER, "return self._tries < _TRIES or", "return"),
        schedule="tests/unit/checkpoint/test_keeper.py::"
        "test_who_follows_is_faithful_until_some_questions_have_been_of_no_use",
    ),
    Mutant(
        "over-before-a-checkpoint",
        "who is to join is told that an epoch is over while there is no checkpoint of a later one",
        "6.10",
        Patch(
            _ERAS,
            "        if era is None or self.durable > heard:\n",
            "        if True:\n",
        ),
        schedule=_ERAS_TESTS
        + "test_who_is_to_join_hears_that_an_epoch_is_over_once_there_is_something_to_fetch",
    ),
    Mutant(
        "guest-counted",
        "what an observer says is heeded like what a voter says",
        "6.11",
        Patch(
            "epaxos.protocol.epaxos.core",
            "            take = self._receive if event.sender < state.n else self._answer_guest\n",
            "            take = self._receive\n",
        ),
        schedule=_SPECTATOR_TESTS + "test_no_answer_of_one_without_a_vote_counts",
    ),
    Mutant(
        "age-of-f-answers",
        "an observer's state counts as that of the moment when f voters had been asked",
        "6.11",
        Patch(
            "epaxos.protocol.spectator",
            "> self._f:\n            self.as_of = latest[self._f]",
            ">= self._f:\n            self.as_of = latest[self._f - 1]",
        ),
        schedule=_SPECTATOR_TESTS
        + "test_its_age_counts_from_when_enough_were_asked_once_what_they_knew_has_executed",
    ),
    Mutant(
        "age-before-execution",
        "an observer's state counts as that of the moment when it was told of what it has not executed yet",
        "6.11",
        Patch(
            "epaxos.protocol.spectator",
            "while waiting and all(map(le, waiting[0][1], executed)):",
            "while waiting:",
        ),
        draw=OBSERVED,
    ),
    Mutant(
        "age-of-an-epoch-that-is-over",
        "an observer goes on to say how old its state is where an epoch has ended",
        "6.11",
        Patch(
            "epaxos.protocol.spectator",
            "        if not self._is_over:\n            before",
            "        if True:\n            before",
        ),
        schedule=_SPECTATOR_TESTS + "test_nothing_is_told_of_an_epoch_that_is_over",
    ),
    Mutant(
        "answer-of-another-life",
        "an observer takes an answer to a question of before its restart for one to the last that it asked",
        "6.11",
        Patch(
            "epaxos.protocol.spectator",
            "asked = self._asked.get(message.number)\n",
            "asked = self._asked.get(message.number, max(self._asked.values(), default=None))\n",
        ),
        schedule=_SPECTATOR_TESTS + "test_an_answer_to_a_question_of_before_a_restart_tells_nothing",
    ),
    Mutant(
        "pins-of-a-quorum",
        "who begins anew takes part once a quorum knows it",
        "6.2",
        Patch("epaxos.protocol.quorums", "min(self.n - 1, (self.n + max(self.f, 1)) // 2)", "self.slow - 1"),
        schedule="tests/unit/protocol/test_quorums.py::test_two_of_one_name_are_not_both_known_to_enough",
    ),
    Mutant(
        "stranger-followed",
        "the checkpoint of any later epoch is taken, whoever votes in that",
        "6.7, 6.10",
        Patch(
            "epaxos.protocol.membership",
            "            and {*later.names, *later.removed}.issuperset(self.names)\n",
            "",
        ),
        schedule="tests/unit/protocol/test_membership.py::"
        "test_a_configuration_leads_to_all_that_come_of_it_and_to_no_stranger_s",
    ),
    Mutant(
        "removed-comes-back",
        "a next configuration may have a voter that was removed",
        "6.10",
        Patch(
            "epaxos.protocol.membership",
            "            and not set(said.names) & set(said.removed)\n",
            "",
        ),
        schedule="tests/unit/protocol/test_membership.py::test_who_was_removed_does_not_come_back",
    ),
    Mutant(
        "ahead-of-another-configuration",
        "what is kept for the next epoch is taken though its sender means another configuration by that",
        "6.1",
        Patch(
            "epaxos.actors.peers",
            "        if opened.digest != running.mark.digest:\n",
            "        if None:\n",
        ),
        schedule="tests/unit/actors/test_peers.py::test_what_came_ahead_of_its_epoch_is_read_when_that_has_begun",
    ),
)

HARMLESS: Final = (
    Mutant(
        "never-retires",
        "who has been removed stays for ever",
        "6.10",
        Patch(_ERAS, "        return there >= running.n - running.f\n", "        return False\n"),
        draw=MEMBERS,
        benign="it has no vote, and nothing that it says counts; leaving saves a process, and the operator a question",
    ),
    Mutant(
        "no-quiesce",
        "who knows of a barrier proposes on",
        "6.5",
        Patch(_COMMIT, "if state.quiet:\n            state.cover(", "if None:\n            state.cover("),
        draw=REFRESHED,
        benign="what comes too late is void, and proposed again in the next epoch: it costs a round, and bytes",
    ),
)
"""Rules of epochs that have another reason than safety."""
