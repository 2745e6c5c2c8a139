from __future__ import annotations

import pytest

from epaxos.actors.company import ENOUGH, LEAST, MOST, Company


class Rig:
    """Frames of one command; all that wait came at the second 10."""

    def __init__(self) -> None:
        self.company = Company()
        self.waiting = self.under_way = 0

    def come(self, frames: int) -> None:
        for _ in range(frames):
            self.waiting += 1
            self.company.arrived(self.waiting + self.under_way)

    def wait(self, *, alone: bool = True) -> float:
        """How long what waits is to wait for others."""
        return max(0.0, self.company.due(self.waiting, self.waiting, 10.0, alone=alone) - 10.0)

    def go(self, *, alone: bool = True) -> None:
        """What waits is proposed."""
        self.wait(alone=alone)
        self.company.left(self.waiting, self.waiting + self.under_way)
        self.under_way += self.waiting
        self.waiting = 0

    def answer(self) -> None:
        self.under_way = 0


def test_the_only_client_never_waits() -> None:
    rig = Rig()
    for _ in range(5):
        rig.come(1)
        assert rig.wait() == 0.0
        rig.go()
        rig.answer()


def test_clients_that_come_back_together_share_an_instance_though_one_was_first() -> None:
    rig = Rig()
    rig.come(1)
    rig.go()
    rig.come(9)
    assert rig.wait(alone=False) == pytest.approx(LEAST)
    rig.answer()
    rig.go()
    rig.come(1)  # the first one again, while nine are under way
    rig.answer()
    for _ in range(5):
        rig.come(8)
        assert rig.wait() == pytest.approx(LEAST)
        rig.come(1)
        assert rig.wait() == 0.0  # all ten are here
        rig.go()
        rig.answer()
        rig.come(1)


def test_enough_commands_wait_for_nobody() -> None:
    rig = Rig()
    rig.come(ENOUGH - 1)
    assert rig.wait(alone=False) == pytest.approx(LEAST)
    rig.come(1)
    assert rig.wait(alone=False) == 0.0
    rig.come(ENOUGH)
    rig.go()
    rig.answer()
    rig.come(ENOUGH)
    assert rig.wait() == 0.0  # though twice as many were under way


def test_who_waited_in_vain_waits_ever_less_often() -> None:
    rig = Rig()
    waits = []
    for _ in range(400):
        rig.come(1)
        waits.append(rig.wait() > 0.0)
        rig.go()
        rig.come(1)  # another client, which is not there when the first one comes again
        rig.answer()
        rig.go()
        rig.answer()
    assert 3 <= sum(waits) < 20
    assert not any(waits[-50:]) or waits[-50:].count(True) == 1


def test_patience_goes_with_the_time_that_instances_take() -> None:
    rig = Rig()
    rig.come(1)
    for seconds, patience in ((0.0001, LEAST), (0.006, 0.003), (0.2, MOST), (0.0001, LEAST)):
        for _ in range(100):
            rig.company.decided(seconds)
        assert rig.wait(alone=False) == pytest.approx(patience, rel=0.01)
