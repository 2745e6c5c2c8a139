"""Protocol 1, G: the sizes of quorums."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.quorums import allowed, default_e, default_f, make_quorums


@pytest.mark.parametrize(
    ("n", "f", "e", "slow", "fast"),
    [
        (1, 0, 0, 1, 1),
        (2, 0, 0, 2, 2),
        (3, 1, 1, 2, 2),
        (4, 1, 1, 3, 3),
        (5, 2, 2, 3, 3),
        (6, 2, 2, 4, 4),
        (7, 3, 2, 4, 5),
        (9, 4, 3, 5, 6),
    ],
)
def test_usual_quorums(n: int, f: int, e: int, slow: int, fast: int) -> None:
    quorums = make_quorums(n)
    assert quorums == (n, f, e)
    assert (quorums.slow, quorums.fast) == (slow, fast)


@pytest.mark.parametrize(
    ("n", "f", "e", "slow", "fast"),
    [(3, 0, 0, 3, 3), (3, 1, 0, 2, 3), (5, 1, 1, 4, 4), (5, 2, 1, 3, 4), (5, 2, 0, 3, 5), (7, 2, 2, 5, 5)],
)
def test_quorums_that_are_asked_for(n: int, f: int, e: int, slow: int, fast: int) -> None:
    quorums = make_quorums(n, f, e)
    assert quorums == (n, f, e)
    assert (quorums.slow, quorums.fast) == (slow, fast)


@pytest.mark.parametrize(
    ("n", "f", "e"),
    [(3, 2, 0), (3, 1, 2), (4, 2, 1), (5, 3, 0), (7, 3, 3), (6, 2, 3), (3, -1, 0), (3, 1, -1), (0, 0, 0)],
)
def test_impossible_quorums_are_refused_with_the_rule(n: int, f: int, e: int) -> None:
    assert not allowed(n, f, e)
    with pytest.raises(ValueError, match=rf"n={n}, f={f}, e={e}: .*2e \+ f - 1, 2f \+ 1.* must hold"):
        make_quorums(n, f, e)


@pytest.mark.parametrize(
    ("n", "f", "e", "said"),
    [
        (3, 1, 2, "with n=3 and f=1, e is 0 to 1"),
        (6, 2, 3, "with n=6 and f=2, e is 0 to 2"),
        (5, 3, 0, "with n=5, f is 0 to 2"),
        (0, 0, 0, "n is 1 or more"),
    ],
)
def test_a_refusal_says_what_is_allowed_in_numbers(n: int, f: int, e: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"must hold, so {said}$"):
        make_quorums(n, f, e)


def test_an_impossible_f_is_refused_also_without_e() -> None:
    with pytest.raises(ValueError, match="n=3, f=2, e=0"):
        make_quorums(3, 2)


@given(st.integers(1, 30))
def test_defaults_are_the_largest_that_are_allowed(n: int) -> None:
    pairs = [(f, e) for f, e in product(range(n), repeat=2) if allowed(n, f, e)]
    assert default_f(n) == max(f for f, _ in pairs)
    for f in {f for f, _ in pairs}:
        assert default_e(n, f) == max(e for other, e in pairs if other == f)
        assert make_quorums(n, f) == (n, f, default_e(n, f))


@pytest.mark.parametrize("n", range(2, 8))
def test_two_of_one_name_are_not_both_known_to_enough(n: int) -> None:
    """Besides that of the first of them f - 1 disks may be lost, and who has lost it has forgotten whom it knew."""
    for f in (f for f in range(n) if allowed(n, f, 0)):
        pins = make_quorums(n, f, 0).pins
        enough, fewer = (list(map(set, combinations(range(n - 1), count))) for count in (pins, pins - 1))
        assert all(len(first & second) > max(f - 1, 0) for first, second in product(enough, repeat=2))
        assert any(len(first & second) <= max(f - 1, 0) for first, second in product(fewer, repeat=2))


@given(st.integers(1, 12), st.data())
def test_quorums_overlap_as_recovery_needs(n: int, data: st.DataObject) -> None:
    f, e = data.draw(st.sampled_from([(f, e) for f in range(n) for e in range(n) if allowed(n, f, e)]))
    quorums = make_quorums(n, f, e)
    assert 2 * quorums.slow > n, "two slow quorums share a replica"
    # Of a fast quorum, at least slow - e lie in any slow quorum: case 4 of a recovery. Two instances that exclude each
    # other and may both have been decided so fill such a quorum but for one, which leaves no room for a third.
    assert 2 * (quorums.slow - e) >= quorums.slow - 1
    assert n >= quorums.fast >= quorums.slow
