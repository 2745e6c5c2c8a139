"""Those who watch: they ask again and again for what comes after a position, and wait here until there is something.

**Nothing is kept of a watcher** but the question that waits. What it has been told is in the position that it brings,
so that it may ask any replica, and one that is slow fills no memory: what it has not asked for is dropped from the
history some day, and then it is told that it has missed something. A *cursor* beside the position spares a replica that
answered before the search for the place in its history.

**The state first, and then what changes** comes without a moment at which all of it is copied: page by page in the
order of the keys, and with each page all changes since the last one of keys that were told before. So after each page
what a watcher holds of the keys up to there is the state at its position, one moment between two rounds, and after the
last one of all keys.

A replica that has not executed all of a position says nothing of its state, for that would be older; nor while it
merges a peer's checkpoint, which is the state of no moment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.errors import FrameError
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.statemachine.machine import StateMachine
from epaxos.watching.history import History, Lane
from epaxos.watching.position import Position, read_position

KEEP: Final = 60.0
"""Seconds for which changes are kept when nobody asks any more, nor anywhere else."""

LONGEST_WAIT: Final = 10.0
"""Seconds for which a question waits at most."""

MOST_WAITING: Final = 10_000
"""Questions that wait at a replica; and"""

MOST_PREFIXES: Final = 1000
"""different prefixes of them, of which each costs what is kept once more; they have"""

MOST_LENGTHS: Final = 16
"""different lengths, of which each is a look at every change, some 0.3 µs."""

_AT_ONCE: Final = 16
"""Questions that are answered beside a round, of those that come and of those that wait: the others have their turn in
the next ones, commands come first."""

_ENDS_AT_ONCE: Final = 64
"""Questions that have waited for long enough, and are told their position beside a round."""

_PAUSE: Final = 1e-5
"""Seconds between two walks over what is kept, for each change of that: ten times as long as a walk takes."""

_LEAST: Final = 1024  # bytes of an answer that may be asked for

Answer: TypeAlias = "dict[str, Any]"
"""What a watcher is told.

position, cursor   where it is now, and where in the history of this replica that is
keys, values       changes, in order; an instance is in the position with the last of them
state              with `state` asked for: [keys, values, whether there are more], of the position; None: ask again
compacted          why nothing is told: something may be missing here
away, busy         why nothing is told: others may do better, there are too many watchers
invalid            why nothing is told: what was asked for is none
"""

Tell: TypeAlias = "Callable[[Answer], None]"


class Poll(NamedTuple):
    """A watcher's question for what has changed.

    prefix  of the keys
    since   its position; None for now
    cursor  what an answer told beside that
    state   whether it wants the state first; `after` is the last key that it has been told of, None for none
    wait    seconds to wait for something; then it is told its position
    most    bytes of an answer, about
    """

    prefix: bytes
    since: Position | None = None
    cursor: tuple[int, int, int] | None = None
    state: bool = False
    after: bytes | None = None
    wait: float = 1.0
    most: int = 256 * 1024


def read_poll(fields: Any, longest: int) -> Poll:
    """The question that was written as a map, where keys have so many bytes at most.

    Raises:
        FrameError: it is none.
    """
    if not isinstance(fields, dict) or not _is_poll({**_DEFAULTS, **fields}, longest):
        raise FrameError("malformed", "not a question of a watcher")
    asked = {**_DEFAULTS, **fields}
    try:
        since = None if asked["since"] is None else read_position(asked["since"])
    except ValueError as error:
        raise FrameError("malformed", f"not a question of a watcher: {error}") from error
    cursor = None if asked["cursor"] is None else tuple(asked["cursor"])
    wait, most = min(asked["wait"] / 1000, LONGEST_WAIT), max(asked["most"], _LEAST)
    return Poll(asked["prefix"], since, cursor, asked["state"], asked["after"], wait, most)


_DEFAULTS: Final = {"since": None, "cursor": None, "state": False, "after": None, "wait": 0, "most": 0}


def _is_poll(asked: dict[str, Any], longest: int) -> bool:
    cursor, after = asked["cursor"], asked["after"]
    return (
        all(type(key) is bytes and len(key) <= longest for key in (asked.get("prefix"), after or b""))
        and type(asked["state"]) is bool
        and all(type(asked[name]) is int and 0 <= asked[name] < 2**31 for name in ("wait", "most"))
        and (after is None or asked["since"] is not None)
        and (cursor is None or (_is_cursor(cursor) and asked["since"] is not None))
    )


def _is_cursor(cursor: Any) -> bool:
    return isinstance(cursor, list | tuple) and list(map(type, cursor)) == [int] * 3 and min(cursor) >= 0


class _Waiting:
    """A question that waits until some time; without a lane, for that.

    place  from where in the history to go on, as in a cursor; None until that is known
    """

    __slots__ = ("lane", "name", "over", "place", "poll", "tell", "until")

    def __init__(
        self, name: object, poll: Poll, until: float, tell: Tell, place: tuple[int, int] | None
    ) -> None:
        self.name = name
        self.poll = poll
        self.until = until
        self.tell = tell
        self.place = place
        self.lane: Lane | None = None
        self.over = False


class Watchers:
    """All who watch at one replica, and its history; its methods are called between two rounds.

    `name` is a number by which cursors of this process are known, `history` how many bytes of changes are kept, and
    `always` whether they are also while nobody asks. `most` bounds the bytes of an answer. `marks` tells those of the
    replicas that were ever heard of, `steady` whether the state is that of one moment: not while a peer's checkpoint is
    being merged.
    """

    def __init__(self, name: int, history: int, most: int, *, always: bool = False) -> None:
        self._name = name
        self.history = History(history)
        self.marks: Callable[[], tuple[int, ...]] = tuple
        self.steady: Callable[[], bool] = lambda: True
        self._most = most
        self._always = always
        self._machine: StateMachine | None = None
        self._waiting: dict[object, _Waiting] = {}
        self._in_lane: dict[Lane, dict[object, _Waiting]] = {}
        self._behind: dict[object, _Waiting] = {}
        self._new: dict[bytes, dict[object, _Waiting]] = {}
        self._walk_at = -inf
        self._due: OrderedDict[_Waiting, None] = OrderedDict()
        self._ends: list[tuple[float, int, _Waiting]] = []
        self._asked = self._taken = 0
        self._used: dict[Lane, float] = {}
        self._look_at = inf
        self._heeded = -inf
        self.told = self.compacted = 0
        """Changes that were told, and how often somebody was told that some may be missing."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    # -- what happens at the replica -----------------------------------------------------------------------

    def begin(
        self, machine: StateMachine, epoch: int, count: int, frontier: Vector, above: list[InstanceId]
    ) -> None:
        """See `History.begin`."""
        self._machine = machine
        self.history.begin(machine, epoch, count, frontier, above)
        if self._always and machine.tells:
            self.history.record()

    @property
    def watched(self) -> bool:
        """Whether somebody watches here, or has of late."""
        return bool(self._used or self._new)

    def heed(self, now: float) -> None:
        """Somebody watches at another replica, and may come here: what changes from now on is kept for that."""
        assert self._machine is not None
        if self._machine.tells:
            self.history.record()
            self._heeded = now
            self._look_at = min(self._look_at, now + KEEP)

    # -- what watchers ask ---------------------------------------------------------------------------------

    def ask(self, name: object, poll: Poll, now: float, tell: Tell) -> None:
        """Take a question; the one under the same name is not answered any more."""
        assert self._machine is not None
        before = self._waiting.pop(name, None)
        if before is not None:
            self._end(before)
        if not self._machine.tells:
            tell(
                {"invalid": "this cluster runs a state machine of a program's own, which tells of no changes"}
            )
            return
        refused = self._refusal(poll)
        if refused is not None:
            self.compacted += "compacted" in refused
            tell(refused)
            return
        self.history.record()
        cursor = poll.cursor
        place = cursor[1:] if cursor is not None and cursor[0] == self._name else None
        waiting = _Waiting(name, poll, now + poll.wait, tell, place)
        self._find_lane(waiting, now)
        self._look_at = min(self._look_at, now + KEEP)
        self._taken += 1
        has_turn = self._taken <= _AT_ONCE
        if has_turn and waiting.lane is not None and self._answer(waiting, waiting.lane, late=poll.wait <= 0):
            self._end(waiting)
            return
        self._keep(waiting)
        if not has_turn:
            self._due[waiting] = None

    def _refusal(self, poll: Poll) -> Answer | None:
        """Why a question is not taken."""
        since = poll.since
        if since is not None:
            if not since.is_of(self.marks()):
                return {
                    "compacted": "that position is of another cluster, or of one before this one began anew"
                }
            if self.history.rows_of(since.epoch) not in (None, len(since.rows)):
                return {"invalid": f"that is no position: epoch {since.epoch} has other rows"}
        if len(self._waiting) >= MOST_WAITING or not self._has_room(poll.prefix):
            return {"busy": "there are too many watchers here"}
        return None

    def _has_room(self, prefix: bytes) -> bool:
        """Whether one may watch a prefix beside those that are watched."""
        if prefix in self._new or self.history.lane(prefix) is not None:
            return True
        lengths = {len(prefix), *self.history.lengths, *map(len, self._new)}
        return len(self._used) + len(self._new) < MOST_PREFIXES and len(lengths) <= MOST_LENGTHS

    def _find_lane(self, waiting: _Waiting, now: float) -> None:
        """See to a lane for a question: that of its prefix, a new one, or one that it has to wait for."""
        waiting.lane = self.history.lane(waiting.poll.prefix)
        if waiting.lane is None:
            self._new.setdefault(waiting.poll.prefix, {})[waiting.name] = waiting
            if now >= self._walk_at:
                self._walk(now)
        else:
            self._used[waiting.lane] = now

    def _walk(self, now: float) -> None:
        """Make the lanes that are waited for, all in one walk over what is kept; the next one is some time off."""
        new, self._new = self._new, {}
        history = self.history
        self._walk_at = now + _PAUSE * (history.next - history.first) * len(set(map(len, new)))
        history.add_lanes(new)
        for prefix, asking in new.items():
            lane = history.lane(prefix)
            assert lane is not None
            self._used[lane] = now
            self._in_lane[lane] = asking
            for waiting in asking.values():
                waiting.lane = lane
                if self._waiting.get(waiting.name) is waiting:
                    self._due[waiting] = None

    def _keep(self, waiting: _Waiting) -> None:
        """Have a question wait."""
        self._waiting[waiting.name] = waiting
        if waiting.lane is not None:
            self._in_lane.setdefault(waiting.lane, {})[waiting.name] = waiting
        self._asked += 1
        heappush(self._ends, (waiting.until, self._asked, waiting))
        if len(self._ends) > 2 * len(self._waiting) + _ENDS_AT_ONCE:
            self._ends = [end for end in self._ends if not end[2].over]
            heapify(self._ends)

    @property
    def deadline(self) -> float:
        """When `poll` is due even if nothing else happens."""
        if self._due or (self.history.grown and self._waiting):
            return -inf
        deadline = self._look_at
        if self._ends and self._ends[0][0] < deadline:
            deadline = self._ends[0][0]
        return self._walk_at if self._new and self._walk_at < deadline else deadline

    def poll(self, now: float) -> None:
        """A round is over: tell what is new, to a few at a time, and those who have waited for long where they are."""
        self._taken = 0
        if self.watched:
            self._serve(now)
        if now >= self._look_at:
            self._look(now)

    def _serve(self, now: float) -> None:
        if self._new and now >= self._walk_at:
            self._walk(now)
        grown = self.history.grown
        while grown:
            lane, _ = grown.popitem()
            self._due.update(dict.fromkeys(self._in_lane.get(lane, {}).values()))
        if self._behind:
            self._due.update(dict.fromkeys(self._behind.values()))
            self._behind = {}
        if self._due:
            for _ in range(min(len(self._due), _AT_ONCE)):
                waiting, _ = self._due.popitem(last=False)
                self._try(waiting, late=waiting.until <= now)
        left = _ENDS_AT_ONCE
        while left and self._ends and (self._ends[0][2].over or self._ends[0][0] <= now):
            waiting = heappop(self._ends)[2]
            left -= not waiting.over
            self._try(waiting, late=True)

    def _look(self, now: float) -> None:
        """Let go of what nobody has asked for in a while."""
        for lane, used in list(self._used.items()):
            if not self._in_lane.get(lane) and now >= used + KEEP:
                self.history.leave(lane)
                del self._used[lane]
                self._in_lane.pop(lane, None)
        watched = self.watched or now < self._heeded + KEEP
        if not watched and not self._always:
            self.history.stop()
        self._look_at = now + KEEP / 2 if watched else inf

    def send_away(self, reason: str) -> None:
        """Tell all who wait that they had better ask elsewhere."""
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.over = True
            one.tell({"away": reason})
        self._in_lane.clear()
        self._due.clear()
        self._behind.clear()
        self._new.clear()
        self._ends.clear()

    def release(self) -> None:
        """Tell all who wait where they are, so that they ask again: what they may do has changed, perhaps."""
        if self._new:
            self._walk(self._walk_at)
        for one in list(self._waiting.values()):
            self._try(one, late=True)

    def _try(self, waiting: _Waiting, *, late: bool) -> None:
        if waiting.over or waiting.lane is None:  # without a lane, its turn is after the walk
            return
        if self._answer(waiting, waiting.lane, late=late):
            self._waiting.pop(waiting.name, None)
            self._end(waiting)

    def _end(self, waiting: _Waiting) -> None:
        waiting.over = True
        self._due.pop(waiting, None)
        self._behind.pop(waiting.name, None)
        if waiting.lane is not None:
            self._in_lane.get(waiting.lane, {}).pop(waiting.name, None)
            return
        asking = self._new[waiting.poll.prefix]
        del asking[waiting.name]
        if not asking:
            del self._new[waiting.poll.prefix]

    # -- answers -------------------------------------------------------------------------------------------

    def _answer(self, waiting: _Waiting, lane: Lane, *, late: bool) -> bool:
        """Tell what there is to tell; False if there is nothing yet. `late`: then tell at least the position."""
        poll, history = waiting.poll, self.history
        since = poll.since
        if poll.state and poll.after is None:
            return self._begin_state(waiting, late=late)
        if since is None:
            self._tell(waiting, history.position, history.next, 0)
            return True
        number, skip = waiting.place = self._place(waiting, lane, since)
        if number < 0:
            self.compacted += 1
            waiting.tell({"compacted": "changes after that position are not kept here any more"})
            return True
        most = min(poll.most, self._most)
        upto = poll.after if poll.state else None
        found = history.changes(lane, since, number, skip, upto, most)
        keys, values = found.keys, found.values
        state = None
        if poll.state and found.whole and not self._lacks(since):
            state = self._page(poll, most)
        if not keys and state is None and found.whole and not late:
            if poll.state:
                self._behind[waiting.name] = waiting
            return False
        self._tell(waiting, found.position, found.number, found.skip, keys, values, state)
        return True

    def _begin_state(self, waiting: _Waiting, *, late: bool) -> bool:
        """The first page of the state, once it is no older than what the watcher has seen."""
        poll, history = waiting.poll, self.history
        lacks = self._lacks(poll.since)
        if not lacks:
            page = self._page(poll, min(poll.most, self._most))
            self._tell(waiting, history.position, history.next, 0, state=page)
            return True
        if late:
            waiting.tell({"behind": lacks})
            return True
        self._behind[waiting.name] = waiting
        return False

    def _lacks(self, since: Position | None) -> str:
        """Why the state, or more of it, cannot be told to who has seen that; empty if it can."""
        if not self.steady():
            return "what another replica has is being taken over here"
        if not (since is None or self.history.position.includes(since)):
            return "what was seen elsewhere has not executed here yet"
        assert self._machine is not None
        order = self._machine.order
        if not order.at_hand:  # a page would stop the replica
            order.begin()
        return "" if order.at_hand else "the keys are being put in order here"

    def _page(self, poll: Poll, most: int) -> list[Any]:
        assert self._machine is not None
        keys, values, more = self._machine.page(poll.prefix, poll.after, most)
        return [keys, values, more]

    def _place(self, waiting: _Waiting, lane: Lane, since: Position) -> tuple[int, int]:
        """Where in the history to go on: the number of an entry, and what has been told of it; -1 if nowhere.

        What has been dropped since it waits, or asked before, is no gap where nothing of it was in the lane.
        """
        history, place = self.history, waiting.place
        reaches = history.reaches(since)
        if place is not None and history.holds(lane, place[0]) and (reaches or place[0] < history.first):
            return place
        return (history.start(since), 0) if reaches else (-1, 0)

    def _tell(
        self,
        waiting: _Waiting,
        position: Position,
        number: int,
        skip: int,
        keys: list[bytes] | None = None,
        values: list[bytes | None] | None = None,
        state: list[Any] | None = None,
    ) -> None:
        keys = keys or []
        self.told += len(keys)
        waiting.tell(
            {
                "position": position._replace(marks=self.marks()).as_fields(),
                "cursor": [self._name, number, skip],
                "keys": keys,
                "values": values or [],
                "state": state,
            }
        )
