"""Mutants of Multi-Paxos: what a leader proposes, an acceptor promises, a replica learns, and who leads."""

from __future__ import annotations

from typing import Final

from mutants.mutation import LED_SMALL, Draw, Mutant, Patch

_ELECTION: Final = "epaxos.protocol.multipaxos.election"
_LEADING: Final = "epaxos.protocol.multipaxos.leading"
_ACCEPTOR: Final = "epaxos.protocol.multipaxos.acceptor"
_LEARNING: Final = "epaxos.protocol.multipaxos.learning"
_FORWARDING: Final = "epaxos.protocol.multipaxos.forwarding"
_CHECKPOINT: Final = "epaxos.protocol.multipaxos.checkpoint"
_STATE: Final = "epaxos.protocol.multipaxos.state"
_RESTART: Final = "epaxos.protocol.multipaxos.restart"
_CORE: Final = "tests/unit/protocol/test_multipaxos.py::"
_PATTERNS: Final = "tests/unit/protocol/test_led_elections.py::"

_RIVALS: Final = Draw(
    "Multi-Paxos, rivals",
    operations=12,
    system="multipaxos",
    faults="crash,loss,reorder,pause,partition,disk",
    options=(("leaders", "rivals"),),
)
"""Leaders that follow one another quickly while commands are under way, each heard by few (`simulation.plan.fates`)."""

_STEADY: Final = Draw(
    "Multi-Paxos, steady",
    operations=8,
    system="multipaxos",
    faults="partition",
    options=(("leaders", "steady"),),
)
"""Links that are cut for long, and clients that stay until they are sent elsewhere."""

VALUES: Final = (
    Mutant(
        "leader-any-vote",
        "a new leader proposes again any vote that it was told, not that of the highest ballot",
        "multipaxos 2, 3",
        (
            Patch(
                _ELECTION,
                "known[0] != DECIDED and (ballot == DECIDED or ballot > known[0])",
                "known[0] != DECIDED and (ballot == DECIDED or ballot < known[0])",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-single-ballot",
        "a vote is told as one of the ballot that is promised now",
        "multipaxos 2, 3",
        (Patch(_ACCEPTOR, "else instance.abal\n", "else message.ballot\n"),),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-forgets-votes",
        "a new leader begins with new commands, in slots that may have been chosen",
        "multipaxos 2, 3",
        (
            Patch(
                _LEADING,
                "for slot in range(start, max(votes, default=-1) + 1):",
                "for slot in range(start, start):",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-leaves-gaps",
        "a new leader annuls no slot that nobody has told it of",
        "multipaxos 2, 4",
        (Patch(_LEADING, '            self._propose(slot, NOP, "recovered")\n', "            pass\n"),),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-below-truncation",
        "a new leader annuls what a promiser has dropped",
        "multipaxos 2, 7",
        (
            Patch(
                _ELECTION,
                "self._lead(campaign, votes, source, dropped)",
                "self._lead(campaign, votes, source, -1)",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-stands-still",
        "a leader that does not get what lies below its start leads on",
        "multipaxos 2, 7",
        (Patch(_ELECTION, "            self._leading.end()\n\n    def _start", "\n    def _start"),),
        schedule=f"{_CORE}test_a_leader_without_what_lies_below_its_start_lets_another_try",
    ),
    Mutant(
        "decided-is-a-vote",
        "a decision that a promise tells of loses to a vote of a higher ballot",
        "multipaxos 2, 3",
        (Patch(_ELECTION, "(ballot == DECIDED or ballot > known[0])", "ballot > known[0]"),),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-below-known",
        "a candidate leads although it knows of a higher ballot",
        "multipaxos 2, 3",
        (
            Patch(
                _ELECTION,
                "if self.campaign is not None and ballot > self.campaign.ballot:",
                "if False:",
            ),
        ),
        schedule=f"{_CORE}test_a_candidate_that_knows_of_a_higher_ballot_does_not_lead",
    ),
    Mutant(
        "leader-below-decided",
        "a candidate leads although a decision tells of a higher ballot",
        "multipaxos 2, 3",
        (
            Patch(
                _ELECTION,
                "if self._state.last_decided > max(self._state.committed, max(votes, default=dropped), dropped):",
                "if False:",
            ),
        ),
        schedule=f"{_CORE}test_a_candidate_that_learns_a_decision_above_all_votes_for_it_has_been_outvoted",
    ),
)

PROMISES: Final = (
    Mutant(
        "leader-promise-not-durable",
        "a promise is not written down",
        "multipaxos 2, 2",
        (
            Patch(
                _STATE,
                "            self.view.bal = ballot\n            self._view_changed = True\n",
                "            self.view.bal = ballot\n",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-promise-forgotten",
        "a restart forgets the promise",
        "multipaxos 2, 2",
        (
            Patch(
                _RESTART, "            state.view = record\n", "            state.view.deps = record.deps\n"
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-vote-not-durable",
        "a vote is not written down",
        "multipaxos 2, 2",
        (
            Patch(
                _STATE,
                "        self._put(instance, value)\n        self.effects.records.append(instance)\n        self.raise",
                "        self._put(instance, value)\n        self.raise",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-votes-below-promise",
        "an acceptor votes below its promise",
        "multipaxos 2, 2",
        (
            Patch(_ACCEPTOR, "if ballot < state.promised:", "if False:"),
            Patch(
                _STATE,
                "instance.phase is Phase.COMMITTED or ballot < self.promised",
                "instance.phase is Phase.COMMITTED",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-by-minority",
        "one promise less than a quorum makes a leader",
        "multipaxos 2, 3",
        (
            Patch(
                _ELECTION,
                "if len(whole) < self._state.quorum:",
                "if len(whole) < max(1, self._state.quorum - 1):",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-promise-incomplete",
        "a promise counts before all votes that it names have come",
        "multipaxos 2, 3",
        (
            Patch(
                _ELECTION,
                "return self.lacking is not None and not self.lacking",
                "return self.lacking is not None",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "leader-votes-counted",
        "a promise says how many votes there are, not which",
        "multipaxos 2, 3",
        (
            Patch(
                _ELECTION,
                "promise.lacking = named - promise.votes.keys()",
                "promise.lacking = set(sorted(named)[len(promise.votes) :])",
            ),
        ),
        schedule=f"{_CORE}test_a_promise_counts_when_each_vote_that_it_names_has_come",
    ),
    Mutant(
        "leader-ballot-again",
        "a candidate that restarts uses ballots again",
        "multipaxos 2, 6",
        (
            Patch(_ELECTION, "next_ballot(max(state.known, state.promised), ", "next_ballot(state.known, "),
            Patch(_RESTART, "    state.hear_of(state.view.bal)\n", ""),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "prepare-leaves-leader",
        "who promises a ballot above the one that it leads leads on",
        "multipaxos 2, 2",
        (Patch(_ACCEPTOR, "if message.ballot > self._leading.ballot:", "if False:"),),
        draw=_RIVALS,
    ),
    Mutant(
        "vote-below-truncation",
        "an acceptor votes where its log is dropped",
        "multipaxos 2, 2",
        (Patch(_ACCEPTOR, "        elif slot <= state.truncated:\n", "        elif False:\n"),),
        schedule=f"{_CORE}test_nobody_votes_where_the_log_is_dropped",
    ),
)

LEARNING: Final = (
    Mutant(
        "word-without-vote",
        "the leader's word decides what was voted for at another ballot",
        "multipaxos 2, 5",
        (
            Patch(
                _LEARNING,
                "and instance.phase is Phase.ACCEPTED and instance.abal == ballot:",
                "and instance.phase is Phase.ACCEPTED:",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "chosen-by-hearsay",
        "what a peer's beacon says is chosen decides what was voted for here",
        "multipaxos 2, 5",
        (
            Patch(
                _LEARNING,
                "        before, self._before[sender] = ",
                "        for slot in range(mine + 1, message.committed[0] + 1):\n"
                "            if (held := state.log.get(slot)) is not None:\n"
                "                self._decide_by_vote(slot, held.abal)\n"
                "        before, self._before[sender] = ",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "outvoted-leads-on",
        "a leader that learns another decision than its own proposal goes on giving its word",
        "multipaxos 2, 5",
        (
            Patch(
                _LEADING,
                '            state.cover("leader outvoted")\n            self.end()\n',
                '            state.cover("leader outvoted")\n',
            ),
        ),
        schedule=f"{_CORE}test_a_leader_whose_slot_was_decided_otherwise_gives_no_word_any_more",
    ),
    Mutant(
        "dropped-leads-on",
        "a leader that is told of truncation takes its proposals for chosen",
        "multipaxos 2, 7",
        (
            Patch(
                _LEADING,
                '            self._state.cover("leader behind what others have dropped")\n            self.end()\n',
                "            reign.open = {slot: it for slot, it in reign.open.items() if slot > frontier}\n"
                "            self._advance(reign)\n",
            ),
        ),
        schedule=f"{_CORE}test_a_leader_behind_what_others_have_dropped_gives_no_word_any_more",
    ),
    Mutant(
        "decision-not-recorded",
        "a decision that differs from the own vote is not written down",
        "multipaxos 2, 10",
        (
            Patch(
                _STATE,
                "            self._put(instance, value)\n            self.effects.records.append(instance)\n"
                "        instance.phase",
                "            self._put(instance, value)\n        instance.phase",
            ),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "view-before-vote",
        "the VIEW is written before the votes of which it speaks",
        "multipaxos 2, 10",
        (
            Patch(
                _STATE,
                "            self.view.deps = (self.committed, -1)\n",
                "            self.view.deps = (self.top, -1)\n",
            ),
        ),
        draw=LED_SMALL,
    ),
    Mutant(
        "forwarded-once",
        "a command is not forwarded again, whoever leads",
        "multipaxos 4",
        (
            Patch(_FORWARDING, "            if self._state.now >= waiting.due:\n", "            if False:\n"),
            Patch(_FORWARDING, "        if way == self._way:\n            return\n", "        return\n"),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "tally-mixes-ballots",
        "votes at different ballots are counted together",
        "multipaxos 2, 5",
        (
            Patch(_LEARNING, "if tally is None or tally.ballot < ballot:", "if tally is None:"),
            Patch(_LEARNING, "        if tally.ballot == ballot:\n", "        if True:\n"),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "proposer-not-told",
        "a leader that proposes what is decided is not told so",
        "multipaxos 3",
        (Patch(_ACCEPTOR, "            state.promise((sender,), Chosen(slot, instance.value))\n", ""),),
        schedule=f"{_CORE}test_a_leader_that_proposes_what_is_decided_is_told_so",
    ),
    Mutant(
        "view-never-caught-up",
        "the VIEW says how far all is decided with the next vote only, not at a checkpoint",
        "multipaxos 2, 10",
        (Patch(_CHECKPOINT, "        state.note_view()\n", ""),),
        schedule=f"{_CORE}test_a_durable_cut_has_the_view_say_what_is_decided",
    ),
    Mutant(
        "forwarded-proposed-twice",
        "a leader proposes a command again that it has proposed and not executed",
        "multipaxos 4",
        (Patch(_LEADING, "if command.encoded in reign.commands:", "if False:"),),
        schedule=f"{_CORE}test_a_leader_proposes_a_forwarded_command_once",
    ),
    Mutant(
        "adopted-leads-on",
        "a leader that adopts a checkpoint above its proposals leads on",
        "multipaxos 6",
        (Patch(_CHECKPOINT, "            self._leading.on_dropped(theirs)\n", ""),),
        schedule=f"{_CORE}test_a_leader_that_adopts_what_lies_above_its_proposals_gives_no_word_on_them",
    ),
    Mutant(
        "older-values-merged",
        "the values of a peer's checkpoint are taken although more has executed here",
        "multipaxos 6",
        (Patch(_CHECKPOINT, "[self.theirs > self.ours]", "[True]"),),
        schedule=f"{_CORE}test_the_later_values_are_those_of_who_has_executed_more",
    ),
    Mutant(
        "adopted-keeps-commands",
        "a leader takes no command again that a checkpoint has swallowed",
        "multipaxos 6",
        (Patch(_CHECKPOINT, "            self._leading.on_adopted()\n", ""),),
        schedule=f"{_CORE}test_a_leader_takes_a_command_again_that_an_adopted_checkpoint_swallowed",
    ),
    Mutant(
        "same-leader-same-way",
        "nothing is forwarded again when the same replica leads another ballot",
        "multipaxos 4",
        (Patch(_FORWARDING, "way = self._election.led, direct", "way = leader or 0, direct"),),
        schedule=f"{_CORE}test_a_follower_forwards_again_when_the_same_replica_leads_anew",
    ),
)

ELECTIONS: Final = (
    Mutant(
        "leader-happy-alone",
        "a leader that no quorum follows sees no reason for an election",
        "multipaxos 5",
        (Patch(_ELECTION, "        return followers + 1 >= state.quorum\n", "        return True\n"),),
        schedule=f"{_PATTERNS}test_a_leader_that_only_one_hears_is_replaced",
    ),
    Mutant(
        "campaign-beside-happy",
        "who does not hear the leader campaigns although others do",
        "multipaxos 5",
        (
            Patch(
                _ELECTION,
                "elif self._hears_happy or not self._hears_quorum or",
                "elif not self._hears_quorum or",
            ),
            Patch(_ELECTION, "        elif self._hears_happy:\n", "        elif False:\n"),
        ),
        draw=_RIVALS,
    ),
    Mutant(
        "failed-ballot-kept",
        "nobody is told that a ballot above the leader's was promised",
        "multipaxos 5",
        (
            Patch(_ELECTION, "        self.hear_of(message.known)\n", ""),
            Patch(_ELECTION, "        self.hear_of(message.ballot)\n", ""),
        ),
        schedule=f"{_PATTERNS}test_a_promise_to_a_candidate_that_failed_keeps_nobody_from_voting_for_ever",
    ),
    Mutant(
        "hung-leader-happy",
        "a leader whose proposals are not chosen sees no reason for an election",
        "multipaxos 5",
        (Patch(_ELECTION, "return not reign.open or self._state", "return True or self._state"),),
        schedule=f"{_CORE}test_a_leader_whose_proposals_are_not_chosen_is_not_happy",
    ),
    Mutant(
        "beacon-deposes-nobody",
        "a leader that hears of another at a higher ballot leads on",
        "multipaxos 5",
        (Patch(_ELECTION, "            self._leading.end()  # replaced", "            pass  # replaced"),),
        schedule=f"{_CORE}test_a_leader_is_replaced_by_the_beacon_of_another_and_forwards_to_it",
    ),
    Mutant(
        "campaign-outlives-promise",
        "a candidate that has promised a higher ballot campaigns on",
        "multipaxos 5",
        (Patch(_ELECTION, "state.promised > self.campaign.ballot:", "False:"),),
        schedule=f"{_CORE}test_an_own_campaign_is_over_when_a_higher_ballot_is_promised",
    ),
    Mutant(
        "patience-without-steps",
        "the patience of one rank is hardly longer than that of the one before",
        "multipaxos 5",
        (
            Patch(
                _ELECTION,
                "_FIRST, _STEP, _JITTER = 0.25, 0.3, 0.05",
                "_FIRST, _STEP, _JITTER = 0.25, 0.05, 0.1",
            ),
        ),
        schedule=f"{_PATTERNS}test_leaders_that_die_far_away_are_replaced_in_one_campaign",
    ),
    Mutant(
        "returned-quorum-forgotten",
        "a leader that gets its quorum back is judged by what it could not do without",
        "multipaxos 5",
        (
            Patch(
                _ELECTION,
                "reign.trusted_since = reign.progress = state.now",
                "reign.trusted_since = state.now",
            ),
        ),
        schedule=f"{_PATTERNS}test_leaders_that_get_their_quorum_back_lead_on",
    ),
    Mutant(
        "lagging-goes-first",
        "who lacks many decisions campaigns as early as others",
        "multipaxos 5",
        (Patch(_ELECTION, "rank += state.n", "rank += 0"),),
        schedule=f"{_CORE}test_who_would_have_to_learn_much_before_it_leads_campaigns_last",
    ),
    Mutant(
        "handover-ignored",
        "a leader that takes leave is missed before somebody else campaigns",
        "multipaxos 5",
        (Patch(_ELECTION, "            state.send((heir,), Handover(ballot))\n", ""),),
        schedule=f"{_PATTERNS}test_a_leader_that_takes_leave_is_replaced_within_round_trips",
    ),
    Mutant(
        "nowhere-unsaid",
        "a replica that hears nobody who leads keeps its clients",
        "multipaxos 5",
        (
            Patch(
                _FORWARDING,
                "return self._lost_since is not None and state.now > self._lost_since + _ELECTION * state.unit",
                "return False",
            ),
        ),
        draw=_STEADY,
    ),
    Mutant(
        "lone-leader-keeps-clients",
        "a leader that has lost its quorum keeps its clients",
        "multipaxos 5",
        (
            Patch(
                _FORWARDING,
                "        if self._election.is_led:\n",
                "        if self._leading.reign is not None or self._election.is_led:\n",
            ),
        ),
        schedule=f"{_CORE}test_commands_get_nowhere_at_a_leader_that_has_long_lost_its_quorum",
    ),
    Mutant(
        "retired-leader-happy",
        "a leader that takes leave sees no reason for an election",
        "multipaxos 5",
        (Patch(_ELECTION, "return not self._retired and self._is_followed", "return self._is_followed"),),
        schedule=f"{_CORE}test_a_leader_that_stops_hands_over_to_who_follows_it_next",
    ),
)
