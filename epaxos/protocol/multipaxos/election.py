"""Who leads: elections that survive links which are cut one by one (multipaxos 5).

Nothing here is needed for safety. Beacons say which ballot their sender follows and whether it is *happy*, that is,
whether it sees no reason for an election. A follower is happy while it hears the leader of the highest ballot that it
knows and that leader says that it is happy; a leader, while a quorum says that it follows it and what it proposes gets
chosen. A peer is heard only while both hear each other.

Who is unhappy, hears a quorum, and hears nobody who is happy for a while, campaigns. So who has lost the leader, while
others hear it, leaves it in peace; and a leader that a quorum cannot reach, or whose disk hangs, is replaced although
all hear it. Who sees that a ballot above its leader's has been promised somewhere is unhappy too: the promise would
keep that replica from voting for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from epaxos.protocol.ids import Ballot, Row, Slot, next_ballot
from epaxos.protocol.log import Value
from epaxos.protocol.multipaxos.leading import Leading, Reign
from epaxos.protocol.multipaxos.learning import BYTES_PER_ANSWER, SLOTS_PER_REQUEST, size_of
from epaxos.protocol.multipaxos.messages import (
    DECIDED,
    NOBODY,
    Beacon,
    Handover,
    Nack,
    Prepare,
    Promised,
    Voted,
)
from epaxos.protocol.multipaxos.state import State

_GRACE: Final = 2
"""Units of patience for which a new leader is happy while it hears a quorum: its followers have to say so first.

One that gets its quorum back is new in this.
"""

_PROGRESS: Final = 3
"""Units of patience within which a leader that has proposed something must see something chosen."""

_FIRST, _STEP, _JITTER = 0.25, 0.3, 0.05
"""Units of patience before a campaign: of the first rank, more for each further one, and by chance.

A unit holds four round trips: a step is one, for the Prepare of the rank before to come first, and the chance.
"""


class Promise:
    """What one replica has answered to a Prepare: its votes by slot, and what it says of them.

    `lacking` are the slots of which it says that it has voted there and whose vote has not come; None before it has
    said which. The votes of a promise that is not `complete` tell nothing: what is missing may have been chosen.
    `size` is how many bytes have come since more was asked for.
    """

    __slots__ = ("lacking", "size", "truncated", "votes")

    def __init__(self) -> None:
        self.votes: dict[Slot, tuple[Ballot, Value]] = {}
        self.lacking: set[Slot] | None = None
        self.truncated: Slot = -1
        self.size = 0

    @property
    def complete(self) -> bool:
        """Whether all has come."""
        return self.lacking is not None and not self.lacking


class Campaign:
    """A candidate's volatile state; it began at `first` and gives up at `until`."""

    def __init__(self, ballot: Ballot, first: Slot, interval: float, until: float) -> None:
        self.ballot = ballot
        self.first = first
        self.interval = interval
        self.until = until
        self.due = math.inf
        self.promises: dict[Row, Promise] = {}
        self.asked: dict[Row, float] = {}


class Election:
    """The part of the replica that owns `state` which sees to it that somebody leads.

    `told` is the last beacon of each peer that is there, `led` the highest ballot that somebody is known to have led;
    `beacon` makes the own one.
    """

    def __init__(self, state: State, leading: Leading, beacon: Callable[[], Beacon]) -> None:
        self._state = state
        self._leading = leading
        self._beacon = beacon
        self.told: dict[Row, Beacon] = {}
        self.campaign: Campaign | None = None
        self.led: Ballot = NOBODY
        self._retired = False
        self._due: float | None = None
        self._attempts = 0

    # -- how things are ------------------------------------------------------------------------------------

    @property
    def leader(self) -> Row | None:
        """Who leads, as far as this replica knows; it may be this one, or one that is not heard."""
        me, leader = self._state.me, self.led % self._state.n
        if self._leading.reign is not None:
            return me
        return None if self.led == NOBODY or leader == me else leader

    @property
    def acknowledged(self) -> Row | None:
        """The same, but None unless somebody who is there follows it still."""
        beacons = map(self._heard, self._state.peers)
        followed = any(beacon is not None and beacon.follows == self.led for beacon in beacons)
        return self.leader if followed or self._leading.reign is not None else None

    @property
    def follows(self) -> Ballot:
        """The ballot that this replica leads or whose leader it hears, or NOBODY."""
        state = self._state
        if self._leading.ballot == state.known:
            return state.known
        beacon = self._heard(state.known % state.n)
        return state.known if beacon is not None and beacon.leads == state.known else NOBODY

    @property
    def happy(self) -> bool:
        """Whether this replica sees no reason for an election."""
        state, reign = self._state, self._leading.reign
        if state.known == NOBODY:
            return False
        if reign is not None and reign.ballot == state.known:
            return not self._retired and self._is_followed(reign) and self._progresses(reign)
        beacon = self._heard(state.known % state.n)
        return beacon is not None and beacon.leads == state.known and beacon.happy == 1

    def _heard(self, peer: Row) -> Beacon | None:
        """The last beacon of a peer that is there."""
        return self.told.get(peer) if peer in self._state.online else None

    def _is_followed(self, reign: Reign) -> bool:
        state = self._state
        if state.now < reign.trusted_since + _GRACE * state.unit:
            return self._hears_quorum
        beacons = map(self._heard, state.peers)
        followers = sum(beacon is not None and beacon.follows == reign.ballot for beacon in beacons)
        return followers + 1 >= state.quorum

    def _progresses(self, reign: Reign) -> bool:
        """Progress, not age: that there is much to do is no reason for an election. A disk that hangs is."""
        return not reign.open or self._state.now <= reign.progress + _PROGRESS * self._state.unit

    @property
    def _hears_quorum(self) -> bool:
        return len(self._state.online) + 1 >= self._state.quorum

    @property
    def is_led(self) -> bool:
        """Whether commands get somewhere from here: to a leader that sees no reason to be replaced, maybe by others."""
        return self.happy or self._hears_happy

    @property
    def _hears_happy(self) -> bool:
        beacons = map(self._heard, self._state.peers)
        return any(beacon is not None and beacon.happy for beacon in beacons)

    # -- what is heard -------------------------------------------------------------------------------------

    def on_beacon(self, sender: Row, message: Beacon) -> None:
        """Note how a peer sees things."""
        state = self._state
        self.told[sender] = message
        self.hear_of(message.known)
        self.hear_leader(max(message.leads, message.follows))
        if self._leading.ballot < max(message.leads, message.follows) == state.known:
            self._leading.end()  # replaced: who is asked by clients here had better forward it

    def hear_leader(self, ballot: Ballot) -> None:
        """Somebody leads this ballot."""
        self.led = max(ballot, self.led)

    def on_online(self, peer: Row) -> None:
        """A peer is there; a leader that gets its quorum back begins anew: nothing could be chosen without."""
        state, reign = self._state, self._leading.reign
        lacked_quorum = not self._hears_quorum
        state.online.add(peer)
        if self.campaign is not None and lacked_quorum and self._hears_quorum:
            self.campaign.until = max(state.now + state.unit, self.campaign.until)
        if reign is not None and lacked_quorum and self._hears_quorum:
            reign.trusted_since = reign.progress = state.now
            state.cover("leader has its quorum back")
            state.send(state.peers, self._beacon())

    def on_offline(self, peer: Row) -> None:
        """What a silent peer has said tells nothing any more."""
        self._state.online.discard(peer)
        self.told.pop(peer, None)

    def on_promise(self, candidate: Row) -> None:
        """A candidate, or a leader, has been promised its ballot here: an own campaign is over, and it gets time."""
        state = self._state
        if self.campaign is not None and state.promised > self.campaign.ballot:
            self._fail()
        elif candidate != state.me and self._due is not None:
            self._due = state.now + self._patience()

    def on_nack(self, message: Nack) -> None:
        """A higher ballot stands in the way."""
        self.hear_of(message.ballot)

    def hear_of(self, ballot: Ballot) -> None:
        """A ballot was spoken of: a campaign below it is over, since its Accepts would be refused."""
        self._state.hear_of(ballot)
        if self.campaign is not None and ballot > self.campaign.ballot:
            self._fail()

    # -- handing over --------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Campaign no more; if this replica leads, let the one whose turn it is campaign at once.

        It leads on until it promises that one its ballot. If the word is lost, others see that this leader is not
        happy, and wait for as long as they do when one is gone.
        """
        state, ballot = self._state, self._leading.ballot
        self._retired = True
        turns = sorted(state.peers, key=lambda peer: (peer - state.me) % state.n)
        followers = (peer for peer in turns if self.told.get(peer) and self.told[peer].follows == ballot)
        heir = next(followers, None)
        if self._leading.reign is not None and heir is not None:
            state.cover("handed over")
            state.send((heir,), Handover(ballot))

    def on_handover(self, message: Handover) -> None:
        """The leader of a ballot wants to be replaced; not if that has happened by now."""
        busy = self._leading.reign is not None or self.campaign is not None or self._retired
        if message.ballot == self._state.known and not busy and self._hears_quorum:
            self._start()

    def lead(self) -> None:
        """Campaign at once: this replica led before, so that nobody else will try for a while."""
        if self._leading.reign is None and self.campaign is None and not self._retired:
            self._start()

    # -- campaigns -----------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """See whether it is time to campaign, or to end a campaign."""
        state = self._state
        self._watch_start()
        if self.campaign is not None:
            self._go_on(self.campaign)
        elif self.happy:
            self._due, self._attempts = None, 0
        elif self._hears_happy or not self._hears_quorum or self._retired:
            self._due = None
        elif self._due is None:
            self._due = state.now + self._patience()
        elif state.now >= self._due:
            self._start()

    def _patience(self) -> float:
        """Seconds to wait before a campaign: the replica behind the old leader goes first, that leader last."""
        state = self._state
        rank = state.me if state.known == NOBODY else (state.me - state.known - 1) % state.n
        if state.told > state.committed + SLOTS_PER_REQUEST:
            rank += state.n  # it would have to learn all that before it proposes anything
        doubled: float = state.unit * 2 ** min(self._attempts, 5)
        return doubled * (_FIRST + _STEP * rank + _JITTER * state.random.random())

    def _watch_start(self) -> None:
        """A leader that does not get what lies below its first slot lets another try: its source may be dead."""
        reign, state = self._leading.reign, self._state
        if reign is None or state.committed >= reign.start - 1:
            return
        if state.committed > reign.below:
            reign.below, reign.below_since = state.committed, state.now
        elif state.now > reign.below_since + _PROGRESS * state.unit:
            state.cover("leader without what lies below its start")
            self._leading.end()

    def _start(self) -> None:
        """Ask for promises at a ballot above all that is known: none is used twice, since promises are durable."""
        state = self._state
        self._leading.end()
        self._due = None
        ballot = next_ballot(max(state.known, state.promised), state.me, state.n)
        state.raise_promise(ballot)
        until = state.now + state.unit * 2 ** min(self._attempts, 5)
        self.campaign = campaign = Campaign(ballot, state.committed + 1, state.settings.retry, until)
        state.cover("campaign")
        campaign.due = state.now + campaign.interval
        for row in state.everybody:
            self._ask(campaign, row)

    def _ask(self, campaign: Campaign, row: Row) -> None:
        """Ask for a promise, or for the rest of it."""
        state = self._state
        campaign.asked[row] = state.now
        promise = campaign.promises.get(row)
        first = campaign.first
        if promise is not None and promise.lacking:
            first = min(promise.lacking)
            promise.size = 0
        state.promise((row,), Prepare(campaign.ballot, first))

    def _go_on(self, campaign: Campaign) -> None:
        state = self._state
        # Who is first in an epoch has nobody yet who could answer, and nobody whom it keeps from leading.
        awaits_others = self.led == NOBODY and not self._hears_quorum
        if state.now >= campaign.until and not awaits_others:
            self._fail()
        elif self._hears_happy:
            state.cover("candidate gave up before a happy one")
            self.campaign = None
        elif state.now >= campaign.due:
            campaign.interval = min(2 * campaign.interval, state.settings.retry_limit)
            campaign.due = state.now + campaign.interval
            for row in state.peers:
                promise = campaign.promises.get(row)
                if not (promise is not None and promise.complete) and state.may_ask(row, campaign.asked[row]):
                    self._ask(campaign, row)

    def _fail(self) -> None:
        state = self._state
        state.cover("campaign failed")
        self.campaign = None
        self._attempts += 1
        self._due = state.now + self._patience()

    def on_voted(self, sender: Row, message: Voted) -> None:
        """Take a part of a promise."""
        campaign = self.campaign
        if campaign is None or message.ballot != campaign.ballot:
            return
        promise = campaign.promises.setdefault(sender, Promise())
        if message.slot not in promise.votes:
            campaign.until = max(self._state.now + self._state.unit, campaign.until)
        promise.votes[message.slot] = (message.abal, message.value)
        promise.size += size_of(message.value)
        if promise.lacking is not None:
            promise.lacking.discard(message.slot)
            if promise.lacking and promise.size > BYTES_PER_ANSWER:
                self._ask(campaign, sender)
            self._count(campaign)

    def on_promised(self, sender: Row, message: Promised) -> None:
        """Take a promise; with a quorum of whole ones, lead.

        Which votes there are says the first answer, since no others are cast below this ballot after it. What has been
        dropped meanwhile lies below where this leader would begin.
        """
        campaign = self.campaign
        if campaign is None or message.ballot != campaign.ballot:
            return
        promise = campaign.promises.setdefault(sender, Promise())
        promise.truncated = max(message.truncated, promise.truncated)
        if promise.lacking is None and message.first == campaign.first:
            named = {slot for first, last in message.slots for slot in range(first, last + 1)}
            promise.lacking = named - promise.votes.keys()
        if promise.lacking is not None:
            promise.lacking -= {slot for slot in promise.lacking if slot <= promise.truncated}
        self._count(campaign)

    def _count(self, campaign: Campaign) -> None:
        whole = {row: promise for row, promise in campaign.promises.items() if promise.complete}
        if len(whole) < self._state.quorum:
            return
        votes: dict[Slot, tuple[Ballot, Value]] = {}
        for promise in whole.values():
            for slot, (ballot, value) in promise.votes.items():
                known = votes.get(slot)
                if known is None or (known[0] != DECIDED and (ballot == DECIDED or ballot > known[0])):
                    votes[slot] = ballot, value
        source = max(whole, key=lambda row: whole[row].truncated)
        dropped = whole[source].truncated
        if self._state.last_decided > max(self._state.committed, max(votes, default=dropped), dropped):
            # One of the quorum has voted there since, which it can only have at a higher ballot. Whoever told the
            # decision did not know of that ballot: it has restarted, or was a leader itself that had been outvoted.
            self._state.cover("candidate outvoted")
            self._fail()
            return
        self.campaign = None
        self._lead(campaign, votes, source, dropped)

    def _lead(
        self, campaign: Campaign, votes: dict[Slot, tuple[Ballot, Value]], source: Row, dropped: Slot
    ) -> None:
        """Begin to lead, and tell so at once: until then nobody is happy."""
        state = self._state
        self._leading.begin(campaign.ballot, dropped, votes)
        self.hear_leader(campaign.ballot)
        if state.committed < dropped:
            state.effects.fetch.append(source)
        if state.peers:
            state.send(state.peers, self._beacon())
