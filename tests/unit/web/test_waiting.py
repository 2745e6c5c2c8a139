from __future__ import annotations

import re
from typing import Any

from epaxos.protocol.ids import InstanceId
from epaxos.web.waiting import Waiting


def told(row: int, slot: int, deps: tuple[int, ...] = (-1, -1, -1), phase: int = 1) -> dict[str, Any]:
    entry = {"row": row, "slot": slot, "phase": phase, "known": phase > 0, "ballot": 0, "deps": list(deps)}
    return entry | {"commands": 2}


def test_only_what_stays_is_stuck() -> None:
    waiting = Waiting()
    waiting.look([told(0, 4), told(1, 2)], 10.0)
    assert waiting.stuck(11.0, 2.0) == []
    waiting.look([told(0, 5), told(1, 2)], 13.0)
    assert waiting.stuck(13.0, 2.0) == [InstanceId(1, 2)]
    assert waiting.oldest(13.0) == 3.0
    waiting.look([], 14.0)
    assert waiting.stuck(20.0, 2.0) == []
    assert waiting.oldest(20.0) == 0.0


def test_it_is_drawn_with_what_it_waits_for() -> None:
    waiting = Waiting()
    waiting.look([told(0, 4, (-1, 2, -1), 3), told(1, 2), told(2, 7, phase=0)], 10.0)
    drawn = waiting.draw(waiting.stuck(20.0, 2.0), 3)
    assert drawn.startswith("<svg")
    for text in ("A.4: waiting, 2 commands", "B.2: preaccepted", "C.7: unknown", "A.4</text>"):
        assert text in drawn
    assert drawn.count('class="edge"') == 1
    assert ">waiting</text>" in drawn
    assert ">executed</text>" not in drawn, "only what occurs is explained"


def test_a_drawing_is_bounded() -> None:
    waiting = Waiting()
    waiting.look([told(0, slot, (slot - 1, -1, -1)) for slot in range(200)], 10.0)
    assert waiting.draw(waiting.stuck(20.0, 2.0), 3).count("<title>") < 20


def test_what_need_not_wait_for_one_another_stands_in_rows_of_three() -> None:
    waiting = Waiting()
    waiting.look([told(0, slot) for slot in range(9)], 10.0)
    drawn = waiting.draw(waiting.stuck(20.0, 2.0), 3)
    places = re.findall(r'<g><title>.*?<rect class="node \w+" x="(\d+)" y="(\d+)"', drawn)
    assert len(set(places)) == 9
    assert {len({x for x, _ in places}), len({y for _, y in places})} == {3}
