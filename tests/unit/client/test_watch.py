"""How a watch goes on, from one replica to the other; over answers of replicas that are made by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import Mock

import pytest

from epaxos.client.options import Options
from epaxos.client.watch import AsyncWatch, Changed, Following, Reset, Synced, Watch, as_position
from epaxos.errors import Closed, Compacted, NoAnswer, Refused
from epaxos.watching.position import Position, parse_position

FIRST, SECOND, THIRD = map(parse_position, ("0:1,0@7.0", "0:1,3@7.0", "0:1,5@7.0"))
GAP = {"watch": {"compacted": "it is not kept here"}}


def told(position: Position, *pairs: tuple[bytes, bytes | None], state: Any = None) -> dict[str, Any]:
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    answer = {"position": position.as_fields(), "cursor": [7, 1, 0], "keys": keys, "values": values}
    return {"watch": {**answer, "state": state}}


def following(*, since: Position | None = None, state: bool = False) -> Following:
    return Following(b"k", since, state=state, count=3, share=1.0)


def asked(follows: Following) -> dict[str, Any]:
    watch = follows.poll(1.0).asked["watch"]
    assert isinstance(watch, dict)
    return watch


def test_the_last_change_of_an_answer_brings_the_position() -> None:
    follows = following()
    assert follows.poll(0.5) == (None, {"watch": asked(follows) | {"wait": 500}}, 1.5)
    assert follows.take(told(FIRST)) == []
    events = follows.take(told(SECOND, (b"k1", b"1"), (b"k2", None)))
    assert events == [Changed(b"k1", b"1", FIRST), Changed(b"k2", None, SECOND)]
    assert asked(follows)["since"] == SECOND.as_fields()
    assert asked(follows)["cursor"] == [7, 1, 0]
    assert follows.position == SECOND


def test_who_is_silent_is_left_and_the_cursor_means_nothing_elsewhere() -> None:
    follows = following()
    follows.take(told(FIRST))
    follows.silent()
    poll = follows.poll(1.0)
    assert poll.replica == 0
    assert (asked(follows)["cursor"], asked(follows)["since"]) == (None, FIRST.as_fields())
    follows.silent()
    assert follows.poll(1.0).replica == 1
    assert follows.resumes == 1
    follows.silent()
    assert follows.rest > 0
    follows.take(told(FIRST))
    assert (follows.rest, follows.poll(1.0).replica) == (0.0, 2)


def test_a_gap_is_one_only_where_no_replica_has_what_changed() -> None:
    follows = following(since=FIRST)
    for _ in range(3):
        assert follows.take(GAP) == []
    with pytest.raises(Compacted, match="no replica has kept"):
        follows.take(GAP)
    follows.take(GAP)
    follows.take(told(SECOND))
    assert [follows.take(GAP) for _ in range(2)] == [[], []]


def test_one_that_is_silent_counts_as_one_that_has_it_not() -> None:
    follows = following(since=FIRST)
    follows.take(GAP)
    follows.silent()
    follows.silent()
    with pytest.raises(Compacted):
        follows.silent()


def test_the_state_comes_in_pages_and_anew_after_a_gap() -> None:
    follows = following(state=True)
    assert (asked(follows)["state"], asked(follows)["after"]) == (True, None)
    assert follows.take(told(FIRST, state=[[b"k1"], [b"1"], True])) == [Reset(), Changed(b"k1", b"1", None)]
    assert (asked(follows)["state"], asked(follows)["after"]) == (True, b"k1")
    events = follows.take(told(SECOND, (b"k1", b"2"), state=[[b"k5"], [b"5"], False]))
    assert events == [Changed(b"k1", b"2", None), Changed(b"k5", b"5", None), Synced(SECOND)]
    assert asked(follows)["state"] is False
    for _ in range(4):
        assert follows.take(GAP) == []
    assert follows.gaps == 1
    assert (asked(follows)["state"], asked(follows)["after"]) == (True, None)
    assert asked(follows)["since"] == SECOND.as_fields()  # nothing older than what was seen
    assert follows.take(told(SECOND, state=[[], [], False])) == [Reset(), Synced(SECOND)]


def test_a_position_of_what_has_come_to_nothing_is_forgotten() -> None:
    follows = following(state=True)
    follows.take(told(FIRST, state=[[], [], False]))
    for _ in range(4):
        follows.take(GAP)
    assert asked(follows)["since"] == FIRST.as_fields()
    for _ in range(3):
        follows.take(GAP)
    assert (asked(follows)["since"], asked(follows)["state"], follows.gaps) == (None, True, 1)
    assert follows.take(told(SECOND, state=[[], [], False])) == [Reset(), Synced(SECOND)]


def test_with_a_position_no_state_comes_before_a_gap() -> None:
    follows = following(since=FIRST, state=True)
    assert asked(follows)["state"] is False


@pytest.mark.parametrize(
    "status",
    [{"watch": {"invalid": "no"}}, {"denied": "reader may not touch the key"}, {"name": "an older one"}],
)
def test_what_is_refused(status: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        following().take(status)


def test_positions_are_given_as_such_or_as_text() -> None:
    assert as_position("0:1,3@7.0") == as_position(SECOND) == SECOND
    with pytest.raises(TypeError, match="since must be a position"):
        as_position(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no position"):
        as_position("yesterday")


OPTIONS = Options(("alpha", "bravo", "charlie"), ("a:1", "b:1", "c:1"), (0, 1, 2), timeout=3.0)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([{"away": "it hears no quorum"}] * 3, "it hears no quorum"),
        ([{"busy": "too many"}] * 3, "too many"),
        ([{"away": "its disk failed"}, None, None], "its disk failed"),
    ],
)
def test_where_nobody_tells_anything_that_is_said_whatever_replicas_say_instead(
    answers: list[dict[str, str] | None], reason: str
) -> None:
    watch: Any = Watch(Mock(), OPTIONS, None, b"k", FIRST, state=False, patience=5.0)

    def ask(now: int) -> None:
        answer = answers[now % 3]
        said = NoAnswer("silence") if answer is None else [{"watch": answer}]
        watch._take(Mock(answer=Mock(side_effect=said)), float(now))

    watch._take(Mock(answer=Mock(return_value=told(FIRST))), 0.0)
    for now in range(1, 6):
        ask(now)
    with pytest.raises(NoAnswer, match=reason):
        ask(6)


class Closing:
    """A driver of a client that is closed while a watch waits, which has been closed before if that is given."""

    def __init__(self) -> None:
        self.watch: Watch[bytes] | AsyncWatch[bytes] | None = None

    def enter(self) -> Mock:
        return Mock(time=Mock(return_value=0.0))

    def run(self, _: object) -> Any:
        if self.watch is not None:
            self.watch.close()
        raise Closed("the client was closed")


def test_a_watch_that_is_closed_ends_though_its_client_is_closed_while_it_waits() -> None:
    driver: Any = Closing()
    watch = Watch[bytes](driver, OPTIONS, None, b"k", FIRST, state=False, patience=None)
    other = AsyncWatch[bytes](driver, OPTIONS, None, b"k", FIRST, state=False, patience=None)
    with pytest.raises(Closed):
        next(watch)
    with pytest.raises(Closed):
        asyncio.run(other.__anext__())
    driver.watch = watch
    assert list(watch) == []
    driver.watch = other
    with pytest.raises(StopAsyncIteration):
        asyncio.run(other.__anext__())


class Paged:
    """A driver of both kinds that brings the state in three pages, between which nothing happens for a while."""

    def __init__(self) -> None:
        pages = [[[b"k1"], [b"1"], True], None, [[b"k2"], [b"2"], True], [[b"k3"], [b"3"], False]]
        self._answers = [told(FIRST, state=page) for page in pages]
        self._answers += [told(SECOND), told(THIRD, (b"k1", b"4"))]
        self.watch: Watch[bytes] | AsyncWatch[bytes] | None = None
        self.seen: list[Position | None] = []

    def enter(self) -> Mock:
        return Mock(time=time.monotonic)

    def run(self, call: Any) -> Any:
        self.seen.append(None if self.watch is None else self.watch.position)
        call._question = Mock(error=None, status=self._answers.pop(0))
        return asyncio.sleep(0)


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
@pytest.mark.parametrize("kind", [Watch, AsyncWatch])
def test_there_is_no_position_until_the_state_is_complete(kind: Any) -> None:
    driver: Any = Paged()
    watch = driver.watch = kind(driver, OPTIONS, None, b"k", None, state=True, patience=None)

    def get() -> Any:
        return watch.get(60.0) if kind is Watch else asyncio.run(watch.get(60.0))

    events = []
    for event in iter(get, Changed(b"k1", b"4", THIRD)):
        events.append(event)
        assert watch.position == (FIRST if isinstance(event, Synced) else None)
    assert events == [Reset(), *(Changed(b"k%d" % n, b"%d" % n, None) for n in (1, 2, 3)), Synced(FIRST)]
    assert driver.seen == [None, None, None, None, FIRST, SECOND]  # where it was when it asked
    assert watch.position == THIRD


def test_it_goes_on_at_those_who_are_there_by_now() -> None:
    follows = following(since=FIRST)
    follows.silent()
    follows.replicas = [3, 4]
    follows.silent()
    assert follows.poll(1.0).replica == 3
    follows.silent()
    assert follows.poll(1.0).replica == 4
    with pytest.raises(Compacted):
        follows.take(GAP)
