"""The load loop against a cluster that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from time import monotonic, sleep
from typing import Any

import msgpack
import pytest

from epaxos.bench.links import Links, Received
from epaxos.bench.load import Load
from epaxos.bench.options import Amount, BenchOptions
from epaxos.bench.results import Measured
from epaxos.bench.verify import History
from epaxos.statemachine.batch import Batch, decode_batch
from epaxos.transport.framing import Frame, Kind, open_frame
from fake_cluster import FIRST_READ, Asked, FakeCluster, Instead

Make = Callable[..., BenchOptions]
NAMES = ("alpha", "bravo", "charlie")


TAGS = count()


def load(
    cluster: FakeCluster, options: BenchOptions, history: History | None = None, **more: Any
) -> Measured:
    replicas = [cluster.config.replica(name) for name in options.replicas]
    with Links(replicas, cluster.config, options.connections) as links:
        return Load(options, links, options.workload(next(TAGS)), history, **more).run()


def commands(cluster: FakeCluster) -> int:
    return sum(len(asked.batch) for asked in cluster.asked)


def test_every_command_is_sent_once_answered_and_counted(cluster: FakeCluster, options: Make) -> None:
    measured = load(cluster, options(writes=50, conflicts=10))
    assert commands(cluster) == 1000 == measured.sent
    total = measured.total()
    assert (total.operations, total.latencies.count) == (1000, 1000)
    assert (total.errors.total(), total.busy, total.retries) == (0, 0, 0)
    assert measured.elapsed > 0
    assert not measured.interrupted
    assert {asked.replica for asked in cluster.asked} == {0, 1, 2}
    assert max(len(asked.batch) for asked in cluster.asked) == 10


def test_a_closed_loop_has_one_command_outstanding(cluster: FakeCluster, options: Make) -> None:
    load(cluster, options(closed=True, window=1, batch=1, clients=1, stop=Amount(operations=50)))
    assert [asked.batch.first for asked in cluster.asked] == list(range(1, 51))
    assert [asked.batch.acked for asked in cluster.asked] == list(range(1, 51))


def test_warm_up_commands_are_sent_and_not_counted(cluster: FakeCluster, options: Make) -> None:
    measured = load(cluster, options(warmup=Amount(operations=300)))
    assert commands(cluster) == 1300
    assert measured.total().operations == 1000 == measured.total().latencies.count


def test_a_duration_ends_the_load(cluster: FakeCluster, options: Make) -> None:
    measured = load(cluster, options(stop=Amount(seconds=0.2), warmup=Amount(seconds=0.1)))
    assert 0.1 < measured.elapsed < 10
    assert 0 < measured.total().operations < measured.sent


def test_a_busy_replica_is_asked_again_with_the_same_numbers(cluster: FakeCluster, options: Make) -> None:
    cluster.behave = lambda asked: cluster.busy(asked.batch) if asked.times <= 3 else None
    measured = load(cluster, options(stop=Amount(operations=100)))
    total = measured.total()
    assert (total.operations, total.busy, total.errors.total()) == (100, 300, 0)
    by_frame: dict[tuple[int, int], Batch] = {}
    for asked in cluster.asked:
        assert by_frame.setdefault((asked.batch.client, asked.batch.first), asked.batch) == asked.batch


def test_a_replica_that_stays_busy_is_given_up(cluster: FakeCluster, options: Make) -> None:
    cluster.behave = lambda asked: cluster.busy(asked.batch)
    measured = load(cluster, options(stop=Amount(operations=30), timeout=0.1, tries=2))
    assert measured.total().errors == {"busy": 30}
    assert measured.total().operations == 0


def test_a_link_to_who_is_no_member_any_more_leads_to_another(cluster: FakeCluster, options: Make) -> None:
    cluster.silent = {1}
    asked = options(stop=Amount(operations=30))
    replicas = [cluster.config.replica(name) for name in asked.replicas]
    known = {"alpha": replicas[0], "charlie": replicas[2], "delta#0000000000000001": replicas[2]}
    members = [(id_, place.host, place.client_port, 0) for id_, place in known.items()]
    with Links(replicas, cluster.config) as links:
        links.follow(0, msgpack.packb((1, "alpha", members)))
        total = Load(asked, links, asked.workload(next(TAGS)), None).run().total()
    assert (total.operations, total.retries, total.errors.total()) == (30, 0, 0)
    assert {some.replica for some in cluster.asked} == {0, 2}


@pytest.mark.parametrize("silent", [set(), {2}])
def test_observers_are_read_at_and_nothing_else_is_asked_of_them(
    cluster: FakeCluster, options: Make, silent: set[int]
) -> None:
    """Whoever is told that members are others than before leaves them where they are; if silent, who votes answers."""
    cluster.silent = silent
    asked = options(
        replicas=NAMES[:2], observers=NAMES[2:], reads="observer", writes=50, window=20, timeout=1.5
    )
    replicas = list(map(cluster.config.replica, NAMES))
    members = [(replica.name, replica.host, replica.client_port, 0) for replica in replicas[:2]]
    with Links(replicas, cluster.config, observers=1) as links:
        links.follow(2, msgpack.packb((1, "charlie#0000000000000001", members)))
        measured = Load(asked, links, asked.workload(next(TAGS)), None).run()
    reads = {some.batch.first >= FIRST_READ: set[int]() for some in cluster.asked}
    for some in cluster.asked:
        reads[some.batch.first >= FIRST_READ].add(some.replica)
    assert reads == {False: {0, 1}, True: {0, 1} if silent else {2}}
    assert (measured.total().operations, measured.total().errors.total()) == (1000, 0)
    assert measured.tallies["charlie"].operations > 300
    assert bool(measured.tallies["charlie"].retries) == bool(silent)


def test_what_a_silent_replica_got_is_sent_to_the_next(cluster: FakeCluster, options: Make) -> None:
    cluster.silent = {1}
    measured = load(cluster, options(stop=Amount(operations=600), window=50, timeout=1.5))
    assert measured.total().operations == 600
    assert measured.tallies["bravo"].operations > 0
    assert 0 < measured.total().retries <= 50  # what was outstanding; the client then stays away
    assert {asked.replica for asked in cluster.asked} == {0, 2}


class Patient:
    """Links to replicas that have all under way, and answer after so many seconds of a clock of their own."""

    names, cluster, voters = NAMES, 0, len(NAMES)

    def __init__(self, answers_after: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after = answers_after
        self.now = 0.0
        self.asked: list[tuple[float, int]] = []
        self.batch = Batch(0, 0, 0, b"", [], None)
        monkeypatch.setattr("epaxos.bench.load.perf_counter_ns", lambda: round(self.now * 1e9))

    def send(self, link: int, frame: bytes, _: int) -> None:
        self.asked.append((self.now, link))
        self.batch = decode_batch(open_frame(frame, 0, 2**20).body)

    def wait(self, _: float) -> None:
        self.now += 0.1

    def receive(self) -> list[Received]:
        batch = self.batch
        kind, rest = (Kind.REPLY, (b"\0", None)) if self.now > self.after else (Kind.TAKEN, ())
        body = msgpack.packb(([batch.client], [batch.first], [len(batch)], *rest))
        return [Received(self.asked[-1][1], Frame(kind, 0, body))]


@pytest.mark.parametrize(("answers_after", "asked"), [(1.8, [0]), (2.5, [0, 1])])
def test_what_is_under_way_is_not_sent_again_before_the_last_try(
    options: Make, monkeypatch: pytest.MonkeyPatch, answers_after: float, asked: list[int]
) -> None:
    links = Patient(answers_after, monkeypatch)
    few = options(closed=True, window=1, batch=1, clients=1, timeout=3.0, stop=Amount(operations=1))
    total = Load(few, links, few.workload(next(TAGS))).run().total()  # type: ignore[arg-type]  # links of a test
    assert total.operations == 1
    assert [link for _, link in links.asked] == asked
    assert [2.0 <= at < 2.5 for at, link in links.asked if link] == [True] * len(asked[1:])


def test_a_lost_answer_does_not_execute_twice(cluster: FakeCluster, options: Make) -> None:
    cluster.behave = lambda asked: Instead(execute=True) if asked.times == 1 else None
    history = History()
    measured = load(
        cluster,
        options(stop=Amount(operations=200), window=50, conflicts=50, verify=True, timeout=0.6),
        history,
    )
    assert measured.total().retries >= 200 == measured.total().operations
    findings = history.check()
    assert (findings.commands, findings.wrong, findings.skipped_keys) == (200, 0, 0)


def test_commands_without_any_answer_are_errors_and_left_out_of_the_check(
    cluster: FakeCluster, options: Make
) -> None:
    cluster.silent = {0, 1, 2}
    history = History()
    measured = load(cluster, options(stop=Amount(operations=30), timeout=0.1, tries=2, verify=True), history)
    assert measured.total().errors == {"no_answer": 30}
    assert measured.total().retries == 30
    assert measured.elapsed == 0
    assert history.check().commands == 0


def test_a_refused_frame_is_an_error_with_the_replicas_words(cluster: FakeCluster, options: Make) -> None:
    cluster.behave = lambda asked: cluster.refused(asked.batch, "key of 9 bytes; at most 8 are allowed")
    measured = load(cluster, options(stop=Amount(operations=20)))
    assert measured.total().errors == {"refused": 20}
    assert measured.remarks == ["key of 9 bytes; at most 8 are allowed"]


def test_outcomes_that_cannot_be_are_errors(cluster: FakeCluster, options: Make) -> None:
    def abort(asked: Asked) -> Instead:
        outcomes = bytes((6,)) + bytes(len(asked.batch) - 1)
        return Instead(
            [cluster.seal(17, [asked.batch.client], [asked.batch.first], [len(outcomes)], outcomes, None)]
        )

    cluster.behave = abort
    measured = load(cluster, options(stop=Amount(operations=100)))
    assert measured.total().errors == {"outcome": 10}
    assert measured.total().operations == 90


@pytest.mark.parametrize(
    "rubbish",
    [
        lambda *_: b"rubbish",
        lambda cluster, batch: cluster.seal(17, batch.client, batch.first, b"\0", None),
        lambda cluster, batch: cluster.seal(17, batch.client, batch.first, b"\0" * len(batch), [1]),
        lambda cluster, batch: cluster.seal(17, batch.client, batch.first, b"\0" * len(batch)),
        lambda cluster, batch: cluster.seal(17, "client", batch.first, b"\0" * len(batch), None),
        lambda cluster, _: cluster.seal(17),
        lambda cluster, batch: cluster.seal(1, batch.client, batch.first, b"\0" * len(batch), None),
    ],
)
def test_rubbish_is_counted_and_the_answer_still_awaited(
    cluster: FakeCluster, options: Make, rubbish: Callable[[FakeCluster, Any], bytes]
) -> None:
    cluster.behave = lambda asked: Instead(
        [rubbish(cluster, asked.batch), cluster.reply(asked.replica, asked.batch)]
    )
    measured = load(cluster, options(stop=Amount(operations=50)))
    assert measured.total().operations == 50
    assert measured.total().errors == {"frame": len(cluster.asked)}


def test_an_answer_that_comes_twice_counts_once(cluster: FakeCluster, options: Make) -> None:
    def twice(asked: Asked) -> Instead:
        answer = cluster.reply(asked.replica, asked.batch)
        return Instead([answer, answer])

    cluster.behave = twice
    total = load(cluster, options(stop=Amount(operations=50))).total()
    assert (total.operations, total.latencies.count, total.errors.total()) == (50, 50, 0)


def test_latency_counts_from_when_a_command_was_due(cluster: FakeCluster, options: Make) -> None:
    """Every answer takes 50 ms and the window is one command: at 100 a second the queue grows."""
    cluster.behave = lambda _: Instead(delay=0.05)
    chosen = options(clients=1, window=1, batch=1, rate=100.0, stop=Amount(operations=10), timeout=2.0)
    longest = load(cluster, chosen).total().latencies.summary()["max"]
    assert longest is not None
    assert longest >= 10 * 50 - 9 * 10  # the last was due after 90 ms and answered after 500


def test_commands_that_were_due_and_never_sent_are_told(cluster: FakeCluster, options: Make) -> None:
    cluster.behave = lambda _: Instead(delay=0.05)
    chosen = options(clients=1, window=1, batch=1, rate=100.0, stop=Amount(seconds=0.5))
    measured = load(cluster, chosen)
    assert 0 < measured.sent <= 10
    assert measured.unsent == pytest.approx(50 - measured.sent, abs=2)


def test_a_rate_is_kept(cluster: FakeCluster, options: Make) -> None:
    """No command before it is due; those a slow machine did not come to are told, not forgotten."""
    measured = load(cluster, options(rate=400.0, stop=Amount(seconds=0.5)))
    assert measured.total().operations == measured.sent <= 201
    assert measured.sent + measured.unsent == pytest.approx(200, abs=2)
    assert measured.sent > measured.unsent


def test_stopping_ends_the_load_with_what_was_measured(cluster: FakeCluster, options: Make) -> None:
    chosen = options(stop=Amount(seconds=60), timeout=60.0)
    replicas = [cluster.config.replica(name) for name in NAMES]
    with Links(replicas, cluster.config) as links:
        running = Load(chosen, links, chosen.workload(tag=7))
        threading.Timer(0.2, running.stop).start()
        measured = running.run()
    assert measured.interrupted
    assert 0 < measured.total().operations <= measured.sent


def test_progress_is_told_as_a_share(cluster: FakeCluster, options: Make) -> None:
    cluster.behave = lambda _: Instead(delay=0.02)
    told: list[tuple[float, int]] = []
    slow = options(closed=True, window=1, batch=1, clients=1, stop=Amount(operations=30))
    load(cluster, slow, progress=lambda *news: told.append(news))
    shares = [share for share, _ in told]
    assert len(told) >= 2
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    assert told[-1][1] > 0


def test_a_verified_run_is_right_on_a_right_cluster(cluster: FakeCluster, options: Make) -> None:
    for mix in ({"conflicts": 25.0}, {"zipf": 0.9}):
        history = History()
        load(cluster, options(writes=50, verify=True, seed=3, **mix), history)
        findings = history.check()
        assert (findings.commands, findings.wrong, findings.skipped_keys) == (1000, 0, 0), findings.texts


def test_a_verified_run_finds_a_lost_write(cluster: FakeCluster, options: Make) -> None:
    def forget(_: Asked) -> None:
        if len(cluster.asked) == 50:
            cluster.store.clear()

    cluster.behave = forget
    history = History()
    load(cluster, options(conflicts=50, verify=True), history)
    assert history.check().wrong > 0


def test_an_interlude_finds_nothing_outstanding_and_does_not_count(
    cluster: FakeCluster, options: Make
) -> None:
    answered: list[int] = []

    def interlude() -> None:
        answered.append(len(cluster.asked))
        sleep(0.1)
        assert len(cluster.asked) == answered[-1]

    begun = monotonic()
    chosen = options(rate=1000.0, stop=Amount(seconds=0.6), clients=1, batch=1)
    measured = load(cluster, chosen, interlude=interlude)
    assert answered[0] == 0
    assert len(answered) >= 3  # at the beginning, in between and at the end
    assert measured.elapsed > 0.5
    assert monotonic() - begun - measured.elapsed > 0.09 * len(answered)
    assert measured.total().operations == pytest.approx(600, rel=0.1)


def test_a_series_tells_how_the_answers_came_over_time(cluster: FakeCluster, options: Make) -> None:
    cluster.silent = {1}
    measured = load(cluster, options(stop=Amount(operations=600), window=50, timeout=1.5, series=0.05))
    assert measured.series is not None
    assert measured.series["interval_s"] == 0.05
    replicas = measured.series["replicas"]
    assert {name: sum(of["operations"]) for name, of in replicas.items()} == {
        name: tally.operations for name, tally in measured.tallies.items()
    }
    assert len({len(of[key]) for of in replicas.values() for key in ("operations", "mean_ms")}) == 1
    waited = replicas["bravo"]  # its client turns to another replica after a third of the time
    assert waited["longest_gap_ms"] >= 500
    assert max(waited["longest_ms"]) >= 500
    assert waited["operations"][0] == 0
    assert waited["mean_ms"][0] is None


def test_a_series_counts_scheduled_commands_from_when_they_were_due(
    cluster: FakeCluster, options: Make
) -> None:
    measured = load(cluster, options(stop=Amount(operations=300), rate=3000.0, series=0.02))
    assert measured.series is not None
    means = [
        mean for of in measured.series["replicas"].values() for mean in of["mean_ms"] if mean is not None
    ]
    assert 0 < min(means) <= max(means) <= (measured.total().latencies.summary()["max"] or 0) + 0.001


def test_clients_share_the_connections_that_they_are_given(cluster: FakeCluster, options: Make) -> None:
    measured = load(cluster, options(clients=12, connections=4, closed=True, window=1, batch=1))
    assert measured.total().operations == 1000
    by_connection: dict[tuple[int, bytes], set[int]] = {}
    for asked in cluster.asked:
        by_connection.setdefault((asked.replica, asked.connection), set()).add(asked.batch.client)
    assert len(by_connection) == 12
    assert all(len(clients) == 1 for clients in by_connection.values())
