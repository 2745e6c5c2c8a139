"""What executed before a cut is taken in before it, as long as that becomes less and less."""

from __future__ import annotations

from epaxos.protocol.backlog import Backlog


def taken(backlog: Backlog[int]) -> list[int]:
    return list(iter(backlog.take, None))


def test_batches_are_worth_taking_while_each_is_smaller_than_the_one_before() -> None:
    backlog: Backlog[int] = Backlog()
    sizes = [20, 12, 12, 3]
    worth = []
    for size in sizes:
        backlog.coming += range(size)
        worth.append(backlog.is_worth(0))
        taken(backlog)
    assert worth == [True, True, False, False], "what was not worth it is still to come, with the rest"
    assert taken(backlog.cut()) == [*range(12), *range(3)]


def test_few_instances_are_not_worth_it() -> None:
    backlog: Backlog[int] = Backlog()
    backlog.coming += range(32)
    assert not backlog.is_worth(2048)
    backlog.coming += range(32, 33)
    assert backlog.is_worth(2048)


def test_a_cut_has_what_was_begun_and_what_has_come_since_and_the_next_begins_anew() -> None:
    backlog: Backlog[int] = Backlog()
    backlog.coming += [1, 2, 3]
    assert backlog.is_worth(0)
    assert backlog.take() == 1
    backlog.coming += [4]
    cut = backlog.cut()
    backlog.coming += [5, 6, 7, 8, 9]
    assert taken(cut) == [2, 3, 4]
    assert backlog.is_worth(0), "more than the last batch of the cut before"
    assert taken(backlog) == [5, 6, 7, 8, 9]
