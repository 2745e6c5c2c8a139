"""Protocol 4.9 where links are slow: waits follow what is measured, and no bytes go twice unasked."""

from __future__ import annotations

from epaxos.protocol.log import NOP
from harness.commands import Access, put
from harness.links import Linked

SIZE = 100_000


def large(number: int) -> Access:
    """A command of some size; no two conflict."""
    return put(number, b"%d" % number + bytes(SIZE).replace(b"\0", b"x"))


def no_ops(cluster: Linked) -> int:
    rows = cluster.cores[1].state.logs.rows
    return sum(instance.value is NOP for row in rows for instance in row.values())


def test_instance_of_a_dead_owner_is_decided_however_long_a_round_trip_takes() -> None:
    for retry, round_trip in ((0.001, 0.05), (0.001, 0.5), (0.01, 2.0), (0.2, 3.0)):
        cluster = Linked(round_trip=round_trip, retry=retry)
        cluster.propose(0, put(1, b"k"))
        cluster.run(0.75 * round_trip)  # both others have it, and no answer has come back
        cluster.dead.add(0)
        for row in (1, 2):
            cluster.report(row, 0, online=False)
        cluster.run(20 * round_trip + 10 * retry)
        assert [core.status().committed[0] for core in cluster.cores[1:]] == [0, 0]
        assert cluster.sent["Recover"] < 50


def test_time_outs_below_the_round_trip_annul_nothing_without_end() -> None:
    cluster = Linked(round_trip=1.0, retry=0.01, timeout=0.05)
    cluster.run(5.0)
    for number in range(60):
        cluster.propose(number % 3, put(number, b"k%d" % (number % 4)))
        cluster.run(0.1)
    cluster.run(10.0)
    assert all(core.in_flight == 0 for core in cluster.cores)
    assert sum(cluster.cores[0].status().executed) == 60 - 3
    assert no_ops(cluster) == 0


def test_time_outs_below_the_round_trip_settle_even_before_it_is_measured() -> None:
    cluster = Linked(round_trip=1.0, retry=0.01, timeout=0.05)
    for number in range(3):
        cluster.propose(number, put(number, b"k"))
    cluster.run(30.0)
    assert all(core.in_flight == 0 for core in cluster.cores)
    assert cluster.cores[0].status().executed == cluster.cores[0].status().seen


def test_payloads_pass_a_slow_link_once() -> None:
    """Sixteen at a time, where a link takes twenty a second and `retry` is over long before that."""
    cluster = Linked(rate=20 * SIZE)
    proposed = 0
    for _ in range(600):
        while cluster.cores[0].in_flight < 16:
            cluster.propose(0, large(proposed))
            proposed += 1
        cluster.run(0.05)
    done = cluster.cores[0].status().committed[0] + 1
    assert done > 0.95 * 30 * 20, "the links were busy with something else"
    assert cluster.bytes[1] < 1.03 * SIZE * proposed
    assert no_ops(cluster) == 0


def test_decisions_that_were_missed_pass_a_slow_link_once() -> None:
    for rate in (5, 20):
        cluster = Linked()
        cluster.cut_off.add(2)
        for row in (0, 1):
            cluster.report(row, 2, online=False)
        for number in range(100):
            cluster.propose(number % 2, large(number))
            cluster.run(0.01)
        cluster.run(1.0)
        cluster.cut_off.clear()
        cluster.bytes.clear()
        cluster.rate = rate * SIZE
        for row, peer in ((0, 2), (1, 2), (2, 0), (2, 1)):
            cluster.report(row, peer, online=True)
        cluster.run(1.2 * 100 / (2 * rate) + 1.0)
        assert cluster.cores[2].status().committed[:2] == (49, 49)
        assert cluster.bytes[2] < 1.1 * 100 * SIZE


def test_peer_that_comes_back_makes_nobody_send_payloads_to_others() -> None:
    cluster = Linked(5, rate=20 * SIZE)
    for peer in (2, 3, 4):
        cluster.cut_off.add(peer)
        for row in (0, 1):
            cluster.report(row, peer, online=False)
    for number in range(20):
        cluster.propose(0, large(number))
    cluster.run(1.5)
    cluster.bytes.clear()
    cluster.cut_off.remove(2)
    for _ in range(5):
        cluster.report(0, 2, online=False)
        cluster.report(0, 2, online=True)
        cluster.run(0.4)
    assert cluster.bytes[1] < SIZE, "it has all"
    assert cluster.bytes[2] < 45 * SIZE, "once from its owner, and perhaps as a decision that another tells"
    assert cluster.cores[0].in_flight == 0


def test_peer_that_comes_and_goes_is_not_asked_for_payloads_each_time() -> None:
    """Each answer to Recover holds it, and takes a second; asked at each return, there would be no end to them."""
    cluster = Linked(round_trip=0.5, rate=2 * SIZE)
    cluster.run(3.0)
    cluster.propose(0, large(0))
    cluster.run(0.85)  # both others have it, and no answer has come back
    cluster.dead.add(0)
    cluster.report(1, 0, online=False)
    cluster.bytes.clear()
    for _ in range(150):
        cluster.report(1, 2, online=False)
        cluster.report(1, 2, online=True)
        cluster.run(0.05)
    assert [core.status().committed[0] for core in cluster.cores[1:]] == [0, 0]
    assert cluster.bytes[1] < 10 * SIZE
