"""Protocol 4.1 (ballots) and the meaning of a vector."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.ids import InstanceId, covers, next_ballot


@given(st.integers(1, 9), st.integers(0, 1000), st.data())
def test_a_new_ballot_is_of_the_next_round_and_names_its_maker(
    n: int, above: int, data: st.DataObject
) -> None:
    maker = data.draw(st.integers(0, n - 1))
    ballot = next_ballot(above, maker, n)
    assert ballot > above
    assert ballot % n == maker
    assert ballot // n == above // n + 1
    assert ballot > 0, "0 is the owner's"


def test_an_id_is_covered_by_a_vector_that_reaches_its_slot() -> None:
    vector = (3, -1, 0)
    assert covers(vector, InstanceId(0, 0))
    assert covers(vector, InstanceId(0, 3))
    assert not covers(vector, InstanceId(0, 4))
    assert not covers(vector, InstanceId(1, 0))
    assert covers(vector, InstanceId(2, 0))


def test_an_id_reads_as_row_and_slot() -> None:
    assert str(InstanceId(2, 17)) == "2.17"
