"""Mutants of Multi-Paxos: what a leader proposes, an acceptor promises, a replica learns, and who leads."""

from __future__ import annotations

from typing import Final

from mutants.mutation import DEFAULT, LED_SMALL, Draw, Mutant, Patch

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

_OVERTAKEN: Final = Draw(
    "Multi-Paxos, overtaken",
    operations=8,
    system="multipaxos",
    faults="partition",
    times=(("checkpoint", 1.0),),
    options=(
        ("leaders", "steady"),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("mix", "mixed"),
        ("whole", 0.9),
    ),
)
"""The same, of clients that read all keys, where what is missed is fetched as a checkpoint."""


def _mutant(
    name: str, bug: str, section: str, *patches: Patch, draw: Draw | None = None, schedule: str = ""
) -> Mutant:
    """One that breaks this section of docs/multipaxos.md; hunted where leaders compete if nothing else is said."""
    usual = DEFAULT if schedule else _RIVALS
    return Mutant(name, bug, f"multipaxos {section}", *patches, draw=draw or usual, schedule=schedule)


VALUES: Final = (
    _mutant(
        "leader-any-vote",
        "a new leader proposes again any vote that it was told, not that of the highest ballot",
        "2, 3",
        Patch(
            _ELECTION,
            "known[0] != DECIDED and (ballot == DECIDED or ballot > known[0])",
            "known[0] != DECIDED and (ballot == DECIDED or ballot < known[0])",
        ),
    ),
    _mutant(
        "leader-single-ballot",
        "a vote is told as one of the ballot that is promised now",
        "2, 3",
        Patch(_ACCEPTOR, "else instance.abal\n", "else message.ballot\n"),
    ),
    _mutant(
        "leader-forgets-votes",
        "a new leader begins with new commands, in slots that may have been chosen",
        "2, 3",
        Patch(
            _LEADING,
            "for slot in range(start, max(votes, default=-1) + 1):",
            "for slot in range(start, start):",
        ),
    ),
    _mutant(
        "leader-leaves-gaps",
        "a new leader annuls no slot that nobody has told it of",
        "2, 4",
        Patch(_LEADING, '            self._propose(slot, NOP, "recovered")\n', "            pass\n"),
    ),
    _mutant(
        "leader-below-truncation",
        "a new leader annuls what a promiser has dropped",
        "2, 7",
        Patch(
            _ELECTION,
            "self._lead(campaign, votes, source, dropped)",
            "self._lead(campaign, votes, source, -1)",
        ),
    ),
    _mutant(
        "leader-stands-still",
        "a leader that does not get what lies below its start leads on",
        "2, 7",
        Patch(_ELECTION, "            self._leading.end()\n\n    def _start", "\n    def _start"),
        schedule=f"{_CORE}test_a_leader_without_what_lies_below_its_start_lets_another_try",
    ),
    _mutant(
        "decided-is-a-vote",
        "a decision that a promise tells of loses to a vote of a higher ballot",
        "2, 3",
        Patch(_ELECTION, "(ballot == DECIDED or ballot > known[0])", "ballot > known[0]"),
    ),
    _mutant(
        "leader-below-known",
        "a candidate leads although it knows of a higher ballot",
        "2, 3",
        Patch(
            _ELECTION,
            "if self.campaign is not None and ballot > self.campaign.ballot:",
            "if False:",
        ),
        schedule=f"{_CORE}test_a_candidate_that_knows_of_a_higher_ballot_does_not_lead",
    ),
    _mutant(
        "leader-below-decided",
        "a candidate leads although a decision tells of a higher ballot",
        "2, 3",
        Patch(
            _ELECTION,
            "if self._state.last_decided > max(self._state.committed, max(votes, default=dropped), dropped):",
            "if False:",
        ),
        schedule=f"{_CORE}test_a_candidate_that_learns_a_decision_above_all_votes_for_it_has_been_outvoted",
    ),
)

PROMISES: Final = (
    _mutant(
        "leader-promise-not-durable",
        "a promise is not written down",
        "2, 2",
        Patch(
            _STATE,
            "            self.view.bal = ballot\n            self._view_changed = True\n",
            "            self.view.bal = ballot\n",
        ),
    ),
    _mutant(
        "leader-promise-forgotten",
        "a restart forgets the promise",
        "2, 2",
        Patch(_RESTART, "            state.view = record\n", "            state.view.deps = record.deps\n"),
    ),
    _mutant(
        "leader-vote-not-durable",
        "a vote is not written down",
        "2, 2",
        Patch(
            _STATE,
            "        self._put(instance, value)\n        self.effects.records.append(instance)\n        self.raise",
            "        self._put(instance, value)\n        self.raise",
        ),
    ),
    _mutant(
        "leader-votes-below-promise",
        "an acceptor votes below its promise",
        "2, 2",
        Patch(_ACCEPTOR, "if ballot < state.promised:", "if False:"),
        Patch(
            _STATE,
            "instance.phase is Phase.COMMITTED or ballot < self.promised",
            "instance.phase is Phase.COMMITTED",
        ),
    ),
    _mutant(
        "leader-by-minority",
        "one promise less than a quorum makes a leader",
        "2, 3",
        Patch(
            _ELECTION,
            "if len(whole) < self._state.quorum:",
            "if len(whole) < max(1, self._state.quorum - 1):",
        ),
    ),
    _mutant(
        "leader-promise-incomplete",
        "a promise counts before all votes that it names have come",
        "2, 3",
        Patch(
            _ELECTION,
            "return self.lacking is not None and not self.lacking",
            "return self.lacking is not None",
        ),
    ),
    _mutant(
        "leader-votes-counted",
        "a promise says how many votes there are, not which",
        "2, 3",
        Patch(
            _ELECTION,
            "promise.lacking = named - promise.votes.keys()",
            "promise.lacking = set(sorted(named)[len(promise.votes) :])",
        ),
        schedule=f"{_CORE}test_a_promise_counts_when_each_vote_that_it_names_has_come",
    ),
    _mutant(
        "leader-ballot-again",
        "a candidate that restarts uses ballots again",
        "2, 6",
        Patch(_ELECTION, "next_ballot(max(state.known, state.promised), ", "next_ballot(state.known, "),
        Patch(_RESTART, "    state.hear_of(state.view.bal)\n", ""),
    ),
    _mutant(
        "prepare-leaves-leader",
        "who promises a ballot above the one that it leads leads on",
        "2, 2",
        Patch(_ACCEPTOR, "if message.ballot > self._leading.ballot:", "if False:"),
    ),
    _mutant(
        "vote-below-truncation",
        "an acceptor votes where its log is dropped",
        "2, 2",
        Patch(_ACCEPTOR, "        elif slot <= state.truncated:\n", "        elif False:\n"),
        schedule=f"{_CORE}test_nobody_votes_where_the_log_is_dropped",
    ),
)

LEARNING: Final = (
    _mutant(
        "word-without-vote",
        "the leader's word decides what was voted for at another ballot",
        "2, 5",
        Patch(
            _LEARNING,
            "and instance.phase is Phase.ACCEPTED and instance.abal == ballot:",
            "and instance.phase is Phase.ACCEPTED:",
        ),
    ),
    _mutant(
        "chosen-by-hearsay",
        "what a peer's beacon says is chosen decides what was voted for here",
        "2, 5",
        Patch(
            _LEARNING,
            "        before, self._before[sender] = ",
            "        for slot in range(mine + 1, message.committed[0] + 1):\n"
            "            if (held := state.log.get(slot)) is not None:\n"
            "                self._decide_by_vote(slot, held.abal)\n"
            "        before, self._before[sender] = ",
        ),
    ),
    _mutant(
        "outvoted-leads-on",
        "a leader that learns another decision than its own proposal goes on giving its word",
        "2, 5",
        Patch(
            _LEADING,
            '            state.cover("leader outvoted")\n            self.end()\n',
            '            state.cover("leader outvoted")\n',
        ),
        schedule=f"{_CORE}test_a_leader_whose_slot_was_decided_otherwise_gives_no_word_any_more",
    ),
    _mutant(
        "dropped-leads-on",
        "a leader that is told of truncation takes its proposals for chosen",
        "2, 7",
        Patch(
            _LEADING,
            '            self._state.cover("leader behind what others have dropped")\n            self.end()\n',
            "            reign.open = {slot: it for slot, it in reign.open.items() if slot > frontier}\n"
            "            self._advance(reign)\n",
        ),
        schedule=f"{_CORE}test_a_leader_behind_what_others_have_dropped_gives_no_word_any_more",
    ),
    _mutant(
        "decision-not-recorded",
        "a decision that differs from the own vote is not written down",
        "2, 10",
        Patch(
            _STATE,
            "            self._put(instance, value)\n            self.effects.records.append(instance)\n"
            "        instance.phase",
            "            self._put(instance, value)\n        instance.phase",
        ),
    ),
    _mutant(
        "view-before-vote",
        "the VIEW is written before the votes of which it speaks",
        "2, 10",
        Patch(
            _STATE,
            "            self.view.deps = (self.committed, -1)\n",
            "            self.view.deps = (self.top, -1)\n",
        ),
        draw=LED_SMALL,
    ),
    _mutant(
        "forwarded-once",
        "a command is not forwarded again, whoever leads",
        "4",
        Patch(_FORWARDING, "            if self._state.now >= waiting.due:\n", "            if False:\n"),
        Patch(_FORWARDING, "        if way == self._way:\n            return\n", "        return\n"),
    ),
    _mutant(
        "tally-mixes-ballots",
        "votes at different ballots are counted together",
        "2, 5",
        Patch(_LEARNING, "if tally is None or tally.ballot < ballot:", "if tally is None:"),
        Patch(_LEARNING, "        if tally.ballot == ballot:\n", "        if True:\n"),
    ),
    _mutant(
        "proposer-not-told",
        "a leader that proposes what is decided is not told so",
        "3",
        Patch(_ACCEPTOR, "            state.promise((sender,), Chosen(slot, instance.value))\n", ""),
        schedule=f"{_CORE}test_a_leader_that_proposes_what_is_decided_is_told_so",
    ),
    _mutant(
        "view-never-caught-up",
        "the VIEW says how far all is decided with the next vote only, not at a checkpoint",
        "2, 10",
        Patch(_CHECKPOINT, "        state.note_view()\n", ""),
        schedule=f"{_CORE}test_a_durable_cut_has_the_view_say_what_is_decided",
    ),
    _mutant(
        "forwarded-proposed-twice",
        "a leader proposes a command again that it has proposed and not executed",
        "4",
        Patch(_LEADING, "if command.encoded in reign.commands:", "if False:"),
        schedule=f"{_CORE}test_a_leader_proposes_a_forwarded_command_once",
    ),
    _mutant(
        "adopted-leads-on",
        "a leader that adopts a checkpoint above its proposals leads on",
        "6",
        Patch(_CHECKPOINT, "            self._leading.on_dropped(theirs)\n", ""),
        schedule=f"{_CORE}test_a_leader_that_adopts_what_lies_above_its_proposals_gives_no_word_on_them",
    ),
    _mutant(
        "older-values-merged",
        "the values of a peer's checkpoint are taken although more has executed here",
        "6",
        Patch(_CHECKPOINT, "[self.theirs > self.ours]", "[True]"),
        schedule=f"{_CORE}test_the_later_values_are_those_of_who_has_executed_more",
    ),
    _mutant(
        "adopted-keeps-commands",
        "a leader takes no command again that a checkpoint has swallowed",
        "6",
        Patch(_CHECKPOINT, "            self._leading.on_adopted()\n", ""),
        schedule=f"{_CORE}test_a_leader_takes_a_command_again_that_an_adopted_checkpoint_swallowed",
    ),
    _mutant(
        "passed-on-for-ever",
        "a command that was passed on is passed on again",
        "4",
        Patch(_FORWARDING, "elif not message.relayed and (leader", "elif (leader"),
        schedule=f"{_CORE}test_a_command_is_passed_on_once",
    ),
    _mutant(
        "swallowed-not-asked-again",
        "what an adopted checkpoint may have swallowed is neither answered nor forwarded again",
        "6",
        Patch(_CHECKPOINT, "state.effects.overtaken = self._forwarding", "self._forwarding"),
        schedule=f"{_CORE}test_an_adopted_checkpoint_stands_for_the_log_and_what_it_may_have_swallowed_is_told",
    ),
    _mutant(
        "same-leader-same-way",
        "nothing is forwarded again when the same replica leads another ballot",
        "4",
        Patch(_FORWARDING, "way = self._election.led, direct", "way = leader or 0, direct"),
        schedule=f"{_CORE}test_a_follower_forwards_again_when_the_same_replica_leads_anew",
    ),
)

ELECTIONS: Final = (
    _mutant(
        "leader-happy-alone",
        "a leader that no quorum follows sees no reason for an election",
        "5",
        Patch(_ELECTION, "        return followers + 1 >= state.quorum\n", "        return True\n"),
        schedule=f"{_PATTERNS}test_a_leader_that_only_one_hears_is_replaced",
    ),
    _mutant(
        "campaign-beside-happy",
        "who does not hear the leader campaigns although others do",
        "5",
        Patch(
            _ELECTION,
            "elif self._hears_happy or not self._hears_quorum or",
            "elif not self._hears_quorum or",
        ),
        Patch(_ELECTION, "        elif self._hears_happy:\n", "        elif False:\n"),
    ),
    _mutant(
        "failed-ballot-kept",
        "nobody is told that a ballot above the leader's was promised",
        "5",
        Patch(_ELECTION, "        self.hear_of(message.known)\n", ""),
        Patch(_ELECTION, "        self.hear_of(message.ballot)\n", ""),
        schedule=f"{_PATTERNS}test_a_promise_to_a_candidate_that_failed_keeps_nobody_from_voting_for_ever",
    ),
    _mutant(
        "hung-leader-happy",
        "a leader whose proposals are not chosen sees no reason for an election",
        "5",
        Patch(_ELECTION, "return not reign.open or self._state", "return True or self._state"),
        schedule=f"{_CORE}test_a_leader_whose_proposals_are_not_chosen_is_not_happy",
    ),
    _mutant(
        "beacon-deposes-nobody",
        "a leader that hears of another at a higher ballot leads on",
        "5",
        Patch(_ELECTION, "            self._leading.end()  # replaced", "            pass  # replaced"),
        schedule=f"{_CORE}test_a_leader_is_replaced_by_the_beacon_of_another_and_forwards_to_it",
    ),
    _mutant(
        "campaign-outlives-promise",
        "a candidate that has promised a higher ballot campaigns on",
        "5",
        Patch(_ELECTION, "state.promised > self.campaign.ballot:", "False:"),
        schedule=f"{_CORE}test_an_own_campaign_is_over_when_a_higher_ballot_is_promised",
    ),
    _mutant(
        "patience-without-steps",
        "the patience of one rank is hardly longer than that of the one before",
        "5",
        Patch(
            _ELECTION,
            "_FIRST, _STEP, _JITTER = 0.25, 0.3, 0.05",
            "_FIRST, _STEP, _JITTER = 0.25, 0.05, 0.1",
        ),
        schedule=f"{_PATTERNS}test_leaders_that_die_far_away_are_replaced_in_one_campaign",
    ),
    _mutant(
        "returned-quorum-forgotten",
        "a leader that gets its quorum back is judged by what it could not do without",
        "5",
        Patch(
            _ELECTION,
            "reign.trusted_since = reign.progress = state.now",
            "reign.trusted_since = state.now",
        ),
        schedule=f"{_PATTERNS}test_leaders_that_get_their_quorum_back_lead_on",
    ),
    _mutant(
        "first-gives-up",
        "who campaigns in an epoch to which others have yet to come gives up before they do",
        "5",
        Patch(_ELECTION, " and not awaits_others:", ":"),
        schedule=f"{_PATTERNS}test_who_leads_on_waits_for_others_to_come_and_then_as_long_as_they_took_to_answer_before",
    ),
    _mutant(
        "lagging-goes-first",
        "who lacks many decisions campaigns as early as others",
        "5",
        Patch(_ELECTION, "rank += state.n", "rank += 0"),
        schedule=f"{_CORE}test_who_would_have_to_learn_much_before_it_leads_campaigns_last",
    ),
    _mutant(
        "handover-ignored",
        "a leader that takes leave is missed before somebody else campaigns",
        "5",
        Patch(_ELECTION, "            state.send((heir,), Handover(ballot))\n", ""),
        schedule=f"{_PATTERNS}test_a_leader_that_takes_leave_is_replaced_within_round_trips",
    ),
    _mutant(
        "nowhere-unsaid",
        "a replica that hears nobody who leads keeps its clients",
        "5",
        Patch(
            _FORWARDING,
            "return self._lost_since is not None and state.now > self._lost_since + _ELECTION * state.unit",
            "return False",
        ),
        draw=_STEADY,
    ),
    _mutant(
        "overtaken-for-ever",
        "what a checkpoint overtakes is proposed again, and overtaken again, though the sessions know what it came to",
        "6",
        Patch("epaxos.statemachine.machine", "        results = []\n", "        return None\n"),
        draw=_STEADY,
    ),
    _mutant(
        "overtaken-reads-for-ever",
        "what reads several keys, or all, is overtaken again each time, though what is adopted is a prefix",
        "6",
        Patch(
            "epaxos.protocol.multipaxos.core",
            "        return True\n\n    def left",
            "        return False\n\n    def left",
        ),
        draw=_OVERTAKEN,
    ),
    _mutant(
        "lone-leader-keeps-clients",
        "a leader that has lost its quorum keeps its clients",
        "5",
        Patch(
            _FORWARDING,
            "        if self._election.is_led:\n",
            "        if self._leading.reign is not None or self._election.is_led:\n",
        ),
        schedule=f"{_CORE}test_commands_get_nowhere_at_a_leader_that_has_long_lost_its_quorum",
    ),
    _mutant(
        "retired-leader-happy",
        "a leader that takes leave sees no reason for an election",
        "5",
        Patch(_ELECTION, "return not self._retired and self._is_followed", "return self._is_followed"),
        schedule=f"{_CORE}test_a_leader_that_stops_hands_over_to_who_follows_it_next",
    ),
)
