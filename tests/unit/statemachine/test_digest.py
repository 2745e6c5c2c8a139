from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from epaxos.statemachine.digest import DigestSource

DATA = st.dictionaries(st.binary(max_size=3), st.binary(max_size=3), max_size=4)
EXECUTED = st.dictionaries(
    st.integers(0, 2**64 - 1), st.sampled_from([(1, 2), (1, 3), (1, 2, 5, 9), (5, 2**63 + 9)]), max_size=3
)


def test_the_digest_does_not_change_between_versions() -> None:
    # Replicas of one cluster may run different versions during an upgrade, and their digests are compared.
    source = DigestSource({b"key": b"value", b"": b""}, {7: (1, 4, 9, 12)})
    assert source.hexdigest() == "ff6f79c5a51155f069e408686203fec6942cec265d0478e1d0369bcd1750fed1"


@given(DATA, EXECUTED, DATA, EXECUTED)
def test_digests_are_equal_exactly_where_states_are(
    data: dict[bytes, bytes],
    executed: dict[int, tuple[int, ...]],
    other_data: dict[bytes, bytes],
    other_executed: dict[int, tuple[int, ...]],
) -> None:
    same = data == other_data and executed == other_executed
    digest = DigestSource(data, executed).hexdigest()
    assert (digest == DigestSource(other_data, other_executed).hexdigest()) == same

    shuffled = DigestSource(dict(reversed(data.items())), dict(reversed(executed.items())))
    assert shuffled.hexdigest() == digest


def test_many_keys_have_one_digest_in_whatever_order_they_came() -> None:
    keys = [b"%d" % number for number in range(10_000)]
    there_and_back = [dict.fromkeys(order, b"x") for order in (keys, keys[::-1])]
    assert len({DigestSource(data, {}).hexdigest() for data in there_and_back}) == 1


def test_bytes_moved_between_a_key_and_its_value_or_its_neighbour_are_seen() -> None:
    states: list[dict[bytes, bytes]] = [
        {},
        {b"": b""},
        {b"ab": b"c"},
        {b"a": b"bc"},
        {b"abc": b""},
        {b"": b"abc"},
        {b"a": b"b", b"c": b""},
        {b"a": b"", b"b": b"c"},
    ]
    assert len({DigestSource(state, {}).hexdigest() for state in states}) == len(states)


def test_a_key_is_not_mistaken_for_a_client() -> None:
    key, value = (7).to_bytes(8, "big"), (1).to_bytes(8, "big") + (2).to_bytes(8, "big")
    assert DigestSource({key: value}, {}).hexdigest() != DigestSource({}, {7: (1, 2)}).hexdigest()


def test_a_digest_may_be_computed_in_another_thread() -> None:
    source = DigestSource({b"%d" % number: b"x" * number for number in range(3000)}, {1: (1, 5)})
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(source.hexdigest).result() == source.hexdigest()
