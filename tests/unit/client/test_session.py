from __future__ import annotations

import pytest

from epaxos import version
from epaxos.client.commands import Op
from epaxos.client.decoding import decode
from epaxos.client.session.outbox import WINDOW_BYTES
from epaxos.client.session.routes import AVOIDANCE, PATIENCE, REPAIR
from epaxos.client.session.tickets import Ticket
from epaxos.errors import Busy, ClientError, Closed, NoAnswer, Refused, SessionExpired, Untold
from epaxos.statemachine.batch import decode_batch
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.transport.framing import ANY_CLUSTER, Kind, open_frame
from session_rig import Rig, Sent


def error_of(ticket: Ticket[str]) -> ClientError:
    assert ticket.done
    assert ticket.error is not None
    return ticket.error


# Frames


def test_a_command_is_answered() -> None:
    rig = Rig()
    ticket = rig.session.submit(Op.get(b"key"), rig.now, waiter="caller")
    sent = rig.only()
    assert sent.replica == 0
    assert (sent.batch.client, sent.batch.first, sent.batch.acked) == (rig.session.id, 1, 1)
    assert (sent.batch.operations, sent.batch.keys, sent.batch.arguments) == (b"\x01", [b"key"], None)
    rig.reply(sent, [b"value"])
    assert rig.finished() == [ticket]
    assert ticket.waiter == "caller"
    assert (ticket.error, ticket.outcomes, ticket.values) == (None, b"\x00", [b"value"])
    assert rig.session.next_event() == float("inf")


def test_what_is_outstanding_shares_a_frame() -> None:
    rig = Rig()
    tickets = [rig.put(b"k%d" % index) for index in range(3)]
    tickets.append(rig.session.submit(Op.get(b"k"), rig.now))
    sent = rig.only()
    assert sent.batch.operations == b"\x02\x02\x02\x01"
    assert sent.batch.keys == [b"k0", b"k1", b"k2", b"k"]
    assert sent.batch.arguments == [b"value", b"value", b"value", None]
    rig.reply(sent, [None, None, None, b"found"])
    assert rig.finished() == tickets
    assert tickets[3].values == [b"found"]


def test_a_frame_without_arguments_says_so() -> None:
    rig = Rig()
    rig.session.submit(Op.get(b"a"), rig.now)
    rig.session.submit(Op.delete(b"b"), rig.now)
    assert rig.only().batch.arguments is None


def test_frames_hold_at_most_max_batch_commands() -> None:
    rig = Rig(max_batch=10)
    for _ in range(25):
        rig.put()
    assert [len(sent.batch) for sent in rig.turn()] == [10, 10, 5]


def test_frames_of_several_submissions_are_bounded_in_bytes() -> None:
    rig = Rig(max_frame=10_000)
    for _ in range(5):
        rig.put(value=bytes(4_000))
    assert [len(sent.batch) for sent in rig.turn()] == [2, 2, 1]


def test_a_command_too_large_for_any_frame_is_refused_at_once() -> None:
    rig = Rig(max_frame=10_000)
    with pytest.raises(Refused, match="a frame holds"):
        rig.put(value=bytes(10_000))
    with pytest.raises(Refused, match="a frame holds"):
        rig.session.submit_columns(b"\x02", [b"k"], [bytes(10_000)], rig.now)
    rig.put()
    assert rig.only().batch.first == 1


def test_what_is_sent_late_is_not_sent_again_soon() -> None:
    """As the last parts of a bulk, whose time began with the first."""
    rig = Rig(tries=3, timeout=3.0)
    rig.session.submit_columns(b"\x02", [b"k"], [b"v"], rig.now - 2.5)
    rig.only()
    assert rig.later(0.4) == []


def test_more_frames_than_the_window_wait_and_then_share_one() -> None:
    rig = Rig(window=2)
    rig.put()
    first = rig.only()
    rig.put()
    rig.turn()
    for _ in range(3):
        rig.put()
        assert rig.turn() == []
    rig.reply(first)
    assert list(rig.only().numbers) == [3, 4, 5]


def test_what_waits_for_room_in_the_window_still_has_its_deadline() -> None:
    rig = Rig(window=1, tries=1)
    rig.put(timeout=5.0)
    rig.turn()
    waiting = rig.put(timeout=1.0)
    rig.turn()
    rig.until_next_event()
    assert isinstance(error_of(waiting), NoAnswer)
    assert not error_of(waiting).may_have_executed


def test_columns_travel_as_they_are() -> None:
    rig = Rig()
    before = rig.put()
    ticket = rig.puts(3)
    after = rig.put()
    assert [list(sent.numbers) for sent in rig.turn()] == [[1], [2, 3, 4], [5]]
    rig.reply(rig.sent[1], None, b"\x00\x01\x02")
    assert rig.finished() == [ticket]
    assert ticket.outcomes == b"\x00\x01\x02"
    assert not before.done
    assert not after.done


def test_acked_is_the_lowest_number_without_answer() -> None:
    rig = Rig(max_batch=1)
    for _ in range(3):
        rig.put()
    one, two, three = rig.turn()
    rig.reply(two)
    rig.put()
    assert rig.only().batch.acked == 1
    rig.reply(one)
    rig.put()
    assert rig.only().batch.acked == 3
    rig.reply(three)
    rig.put()
    assert rig.only().batch.acked == 4


# Tries


def test_without_answer_the_next_replicas_are_tried_under_the_same_number() -> None:
    rig = Rig(timeout=3.0)
    ticket = rig.put()
    tries = rig.turn()
    tries += rig.until_next_event()
    assert rig.now == pytest.approx(101.0)
    tries += rig.until_next_event()
    assert rig.now == pytest.approx(102.0)
    assert [sent.replica for sent in tries] == [0, 1, 2]
    assert [sent.batch for sent in tries] == [tries[0].batch] * 3
    assert rig.until_next_event() == []
    assert rig.now == pytest.approx(103.0)
    error = error_of(ticket)
    assert isinstance(error, NoAnswer)
    assert error.may_have_executed
    assert "alpha, bravo, charlie" in str(error)


def test_with_one_replica_all_tries_go_there() -> None:
    rig = Rig(1)
    rig.put()
    rig.turn()
    assert [sent.replica for sent in rig.until_next_event() + rig.until_next_event()] == [0, 0]


def test_a_late_answer_to_an_earlier_try_counts() -> None:
    rig = Rig()
    ticket = rig.put()
    first = rig.only()
    rig.until_next_event()
    rig.reply(first)
    assert ticket.error is None
    assert rig.finished() == [ticket]
    assert rig.later(60) == []


def test_a_late_answer_after_the_last_try_counts() -> None:
    rig = Rig(tries=1)
    ticket = rig.put(timeout=2.0)
    rig.turn()
    lost = rig.sent[0]
    rig.session.fall(0)
    assert rig.turn() == []
    rig.reply(lost)
    assert ticket.done
    assert ticket.error is None


def test_an_answer_to_both_tries_is_delivered_once() -> None:
    rig = Rig()
    ticket = rig.put()
    first = rig.only()
    (second,) = rig.until_next_event()
    rig.reply(second)
    rig.reply(first)
    assert rig.finished() == [ticket]


def test_a_late_answer_to_a_frame_that_was_regrouped_counts_for_each() -> None:
    rig = Rig()
    hasty = rig.put(timeout=0.3)
    patient = rig.put(timeout=3.0)
    both = rig.only()
    (again,) = rig.later(0.1)
    assert list(again.numbers) == [1]
    rig.reply(both, [b"1", b"2"])
    assert (hasty.values, patient.values) == ([b"1"], [b"2"])
    assert rig.finished() == [hasty, patient]


def test_each_ticket_of_a_frame_has_its_own_deadline() -> None:
    rig = Rig(tries=1)
    hasty = rig.put(timeout=0.5)
    patient = rig.put(timeout=1.0)
    sent = rig.only()
    rig.later(0.5)
    assert hasty.done
    assert not patient.done
    rig.reply(sent)
    assert patient.error is None
    assert rig.finished() == [hasty, patient]


def test_a_lost_connection_sends_on_to_the_next_replica_at_once() -> None:
    rig = Rig()
    ticket = rig.put()
    rig.turn()
    rig.session.fall(0)
    again = rig.only()
    assert again.replica == 1
    rig.session.fall(1)
    rig.session.fall(2)
    assert rig.turn() == []
    rig.later(5.0)
    assert error_of(ticket).may_have_executed


def test_what_becomes_of_replicas_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "epaxos.client")
    rig = Rig()
    rig.put()
    sent = rig.only()
    rig.receive(0, Kind.BUSY, rig.session.id, sent.batch.first, 1)
    rig.until_next_event()
    rig.session.fall(1)
    rig.receive(2, Kind.AWAY, rig.session.id, 0, 0, "it is stopping")
    assert [
        (record.levelname, record.message) for record in caplog.records if "connected" not in record.message
    ] == [
        ("DEBUG", "alpha is busy; 1 commands rest"),
        ("INFO", "lost the connection to bravo; 1 commands go elsewhere"),
        ("INFO", "charlie sends clients elsewhere: it is stopping"),
    ]


def test_a_frame_that_the_socket_did_not_take_was_not_sent() -> None:
    rig = Rig(1, timeout=1.0)
    ticket = rig.put()
    (outgoing,) = rig.outgoing()
    rig.session.unsent(outgoing)
    assert rig.turn() == []
    rig.later(1.0)
    error = error_of(ticket)
    assert isinstance(error, NoAnswer)
    assert not error.may_have_executed
    assert "could not be reached" in str(error)


def test_a_frame_that_one_socket_did_not_take_goes_to_the_next_and_counts_no_try() -> None:
    rig = Rig(tries=1)
    rig.put()
    (outgoing,) = rig.outgoing()
    rig.session.unsent(outgoing)
    assert rig.only().replica == 1


def test_a_replica_whose_socket_took_nothing_counts_as_not_tried() -> None:
    rig = Rig()
    rig.put()
    (outgoing,) = rig.outgoing()
    rig.session.unsent(outgoing)
    rig.session.rise(0)
    assert rig.only().replica == 0


def test_when_a_short_deadline_passes_the_others_of_the_frame_keep_theirs() -> None:
    rig = Rig(tries=1)
    hasty = rig.put(timeout=0.5)
    patient = rig.put(timeout=1.0)
    rig.turn()
    rig.until_next_event()
    assert (hasty.done, patient.done) == (True, False)
    rig.until_next_event()
    assert patient.done
    assert rig.now == pytest.approx(101.0)


def test_commands_that_were_tried_elsewhere_take_their_own_ways() -> None:
    rig = Rig()
    rig.put()
    first = rig.only()
    rig.put()
    rig.turn()
    rig.busy(first)
    rig.until_next_event()
    rig.session.fall(1)
    rig.session.fall(0)
    rig.session.rise(0)
    rig.session.rise(1)
    assert [(sent.replica, list(sent.numbers)) for sent in rig.turn()] == [(2, [1]), (1, [2])]


# Busy


def test_after_busy_it_backs_off_and_asks_another_replica() -> None:
    rig = Rig()
    ticket = rig.put()
    first = rig.only()
    rig.busy(first)
    assert rig.turn() == []
    (again,) = rig.until_next_event()
    assert 0.0005 <= rig.now - 100.0 <= 0.002
    assert again.replica == 1
    rig.reply(again)
    assert ticket.error is None


def test_the_pauses_grow_and_are_bounded() -> None:
    rig = Rig(1)
    rig.put(timeout=60.0)
    sent = rig.only()
    pauses = []
    for _ in range(12):
        before = rig.now
        rig.busy(sent)
        (sent,) = rig.until_next_event()
        pauses.append(rig.now - before)
    assert pauses[0] <= 0.002
    assert pauses[3] > pauses[0]
    assert all(0.05 <= pause <= 0.1 for pause in pauses[7:])


def test_who_is_sent_away_goes_elsewhere_at_once() -> None:
    rig = Rig()
    rig.put()
    rig.away(rig.only(), "it is stopping")
    second = rig.only()
    assert second.replica == 1, "without any rest"
    rig.reply(second)
    (done,) = rig.finished()
    assert isinstance(done, Ticket)
    assert done.error is None
    rig.put()
    assert rig.only().replica == 1, "the first one is avoided"
    assert rig.session.retries == {"silent": 0, "lost": 0, "busy": 1}


def test_while_a_replica_has_it_under_way_no_other_is_asked_but_for_the_last_share() -> None:
    rig = Rig(timeout=3.0)
    rig.put()
    sent = rig.only()
    taken = ([sent.batch.client], [sent.batch.first], [1])
    for _ in range(4):
        assert rig.later(0.45) == []
        rig.receive(0, Kind.TAKEN, *taken)
    assert rig.later(0.15) == []
    assert [again.replica for again in rig.later(0.1)] == [1], "two of three seconds are over"
    rig.reply(sent)
    (done,) = rig.finished()
    assert isinstance(done, Ticket)
    assert done.error is None


def test_what_a_replica_has_under_way_for_others_says_nothing_of_the_own() -> None:
    rig = Rig(timeout=3.0)
    rig.put()
    client = rig.only().batch.client
    rig.later(0.9)
    rig.receive(0, Kind.TAKEN, [client + 1, client], [1, 7], [1, 1])
    rig.receive(1, Kind.TAKEN, [client], [1], [1])
    rig.receive(0, Kind.TAKEN, [client], [1, 2], [1])
    rig.receive(0, Kind.TAKEN, [client], [b"1"], [1])
    assert rig.session.bad_frames == 3
    assert [again.replica for again in rig.later(0.1)] == [1]


def test_a_replica_may_tell_before_it_is_asked() -> None:
    rig = Rig()
    rig.put()
    sent = rig.only()
    rig.receive(0, Kind.AWAY, rig.session.id, 0, 0, "it is stopping")
    rig.put()
    assert rig.only().replica == 1
    rig.reply(sent)
    assert len(rig.finished()) == 1, "what it has taken it answers"


def test_what_a_replica_answers_no_more_is_asked_for_elsewhere_at_once() -> None:
    """It may have executed there: with a vote or a disk, or by the time that both are gone."""
    rig = Rig(timeout=3.0)
    ticket = rig.put()
    sent = rig.only()
    rig.receive(0, Kind.TAKEN, [sent.batch.client], [sent.batch.first], [1])
    rig.receive(0, Kind.AWAY, rig.session.id, 0, -1, "its disk failed")
    assert rig.only().replica == 1, "without any rest"
    rig.put()
    assert rig.only().replica == 1, "the first one is avoided"
    rig.later(10.0)
    assert error_of(ticket).may_have_executed
    assert "within 3 s; the command" in str(error_of(ticket)), "where it was under way it is no more"
    assert rig.session.retries["busy"] == 1


def test_whose_command_is_under_way_where_it_was_asked_last_is_told_so() -> None:
    rig = Rig(timeout=3.0)
    ticket = rig.put()
    sent = rig.only()
    rig.receive(sent.replica, Kind.TAKEN, [sent.batch.client], [sent.batch.first], [1])
    rig.later(10.0)
    told = "within 3 s, where it is under way: give it more time (timeout); the command"
    assert told in str(error_of(ticket))


def test_what_a_replica_tells_by_itself_is_the_answer_to_no_frame() -> None:
    """Else it would seem to owe fewer than it does, and the last of them would be taken for certainly refused."""
    rig = Rig(timeout=60.0)
    rig.put()
    assert rig.only().replica == 0
    rig.receive(0, Kind.AWAY, rig.session.id, 0, -1, "it hears no quorum")
    assert rig.only().replica == 1
    rig.later(AVOIDANCE)
    other = rig.put()
    assert rig.only().replica == 0
    rig.receive(0, Kind.REFUSED, 0, 0, 0, -1, "what?")
    assert error_of(other).may_have_executed


def test_who_is_sent_away_by_all_that_are_there_rests() -> None:
    """Else it asks them in turn as fast as they answer, for as long as another one is down, or has left for good."""
    rig = Rig(timeout=2.0)
    rig.session.fall(2)
    rig.put()
    for replica in range(2):
        sent = rig.only()
        assert sent.replica == replica
        rig.away(sent, "it is starting")
    assert rig.turn() == [], "whom else could it ask?"
    asked = 0
    while not rig.finished():
        for sent in rig.until_next_event():
            asked += 1
            rig.away(sent, "it is starting")
    assert 20 <= asked <= 60


def test_who_is_sent_away_everywhere_rests_and_is_told_why() -> None:
    rig = Rig(timeout=1.0)
    rig.put()
    for replica in range(3):
        sent = rig.only()
        assert sent.replica == replica
        rig.away(sent, "it is starting")
    assert rig.turn() == []
    while not (finished := rig.finished()):
        for sent in rig.until_next_event():
            rig.away(sent, "it is starting")
        assert rig.now <= 101.0
    (ticket,) = finished
    assert isinstance(ticket.error, Busy)
    assert str(ticket.error) == (
        "alpha, bravo, charlie did not take the command within 1 s (it is starting); it did not execute"
    )
    assert not ticket.error.may_have_executed


def test_busy_to_the_end_did_not_execute() -> None:
    rig = Rig(timeout=0.5)
    ticket = rig.put()
    sent = rig.turn()
    while not ticket.done:
        for one in sent:
            rig.busy(one)
        sent = rig.until_next_event()
    assert rig.now == pytest.approx(100.5)
    error = error_of(ticket)
    assert isinstance(error, Busy)
    assert not error.may_have_executed


def test_busy_does_not_unsay_that_an_earlier_try_timed_out() -> None:
    rig = Rig(timeout=0.9)
    ticket = rig.put()
    rig.turn()
    sent = rig.until_next_event()
    while not ticket.done:
        for one in sent:
            rig.busy(one)
        sent = rig.until_next_event()
    error = error_of(ticket)
    assert isinstance(error, NoAnswer)
    assert error.may_have_executed
    assert "alpha" in str(error)


def test_a_late_busy_of_the_try_that_timed_out_makes_it_certain() -> None:
    rig = Rig(2, timeout=0.9, tries=2)
    ticket = rig.put()
    first = rig.only()
    (second,) = rig.until_next_event()
    rig.busy(first)
    rig.busy(second)
    rig.session.fall(0)
    rig.session.fall(1)
    rig.later(1.0)
    error = error_of(ticket)
    assert isinstance(error, Busy)
    assert not error.may_have_executed


def test_a_late_busy_gives_a_command_that_is_out_of_tries_another_one() -> None:
    rig = Rig(1, tries=1)
    rig.put()
    sent = rig.only()
    rig.session.fall(0)
    rig.session.rise(0)
    assert rig.turn() == []
    rig.busy(sent)
    assert list(rig.only().numbers) == [1]


def test_a_late_busy_does_not_send_a_waiting_command_twice() -> None:
    rig = Rig(2)
    rig.put()
    sent = rig.only()
    rig.session.fall(0)
    rig.session.fall(1)
    assert rig.turn() == []
    rig.busy(sent)
    rig.session.rise(1)
    assert list(rig.only().numbers) == [1]


def test_a_command_that_backs_off_still_has_its_deadline() -> None:
    rig = Rig(1)
    rig.put(timeout=0.0004)
    rig.busy(rig.only())
    assert rig.session.next_event() == pytest.approx(100.0004)


def test_what_failed_as_not_executed_is_never_sent_again() -> None:
    rig = Rig()
    hasty = rig.put(timeout=0.0001)
    rig.put(timeout=10.0)
    rig.busy(rig.only())
    (again,) = rig.until_next_event() or rig.until_next_event()
    assert not error_of(hasty).may_have_executed
    assert list(again.numbers) == [2]


# Refused


def test_a_refused_command_fails_alone_and_the_others_are_sent_again() -> None:
    rig = Rig()
    tickets = [rig.put(b"k%d" % index) for index in range(4)]
    rig.refuse(rig.only(), 1, "key too long")
    assert rig.finished() == [tickets[1]]
    error = error_of(tickets[1])
    assert isinstance(error, Refused)
    assert not error.may_have_executed
    assert str(error) == "alpha refused the command: key too long"
    again = rig.turn()
    assert [(sent.replica, list(sent.numbers), sent.batch.keys) for sent in again] == [
        (0, [1], [b"k0"]),
        (0, [3, 4], [b"k2", b"k3"]),
    ]
    for sent in again:
        rig.reply(sent)
    assert rig.finished() == [tickets[0], *tickets[2:]]


def test_a_refused_command_of_columns_fails_alone() -> None:
    rig = Rig()
    ticket = rig.puts(5)
    rig.refuse(rig.only(), 2, "value too long")
    left, right = rig.turn()
    assert (list(left.numbers), list(right.numbers)) == ([1, 2], [4, 5])
    rig.refuse(right, 0, "this too")
    (last,) = rig.turn()
    assert list(last.numbers) == [5]
    rig.reply(last, [b"5"])
    assert rig.finished() == []
    rig.reply(left, None, bytes([Outcome.DONE, Outcome.NOT_FOUND]))
    assert rig.finished() == [ticket]
    assert ticket.error is None
    assert [str(ticket.error_at(position)) for position in range(5)] == [
        "None",
        "None",
        "alpha refused the command: value too long",
        "alpha refused the command: this too",
        "None",
    ]
    assert ticket.outcomes[0:2] == b"\x00\x01"
    assert ticket.values is not None
    assert ticket.values[4] == b"5"


def test_the_rest_of_refused_columns_keeps_its_deadline() -> None:
    rig = Rig(timeout=1.0, tries=1)
    ticket = rig.puts(3)
    rig.refuse(rig.only(), 1)
    rig.turn()
    rig.later(1.0)
    assert rig.finished() == [ticket]
    assert isinstance(ticket.error_at(0), NoAnswer)
    assert isinstance(ticket.error_at(1), Refused)
    assert isinstance(ticket.error_at(2), NoAnswer)


def test_columns_that_were_split_twice_after_a_wait_end_once() -> None:
    rig = Rig(up=False, tries=1)
    ticket = rig.puts(6)
    rig.turn()
    rig.session.rise(0)
    rig.refuse(rig.only(), 1)
    _, right = rig.turn()
    rig.refuse(right, 1)
    rig.turn()
    while not ticket.done:
        rig.until_next_event()
    assert rig.now == pytest.approx(102.0)
    kinds = [type(ticket.error_at(position)) for position in range(6)]
    assert kinds == [NoAnswer, Refused, NoAnswer, Refused, NoAnswer, NoAnswer]
    assert rig.finished() == [ticket]
    assert rig.later(10.0) == []
    assert rig.finished() == []


@pytest.mark.parametrize("index", [-1, 2])
def test_a_refused_frame_fails_all_of_it(index: int) -> None:
    rig = Rig()
    tickets = [rig.put(), rig.put()]
    rig.refuse(rig.only(), index)
    assert rig.finished() == tickets
    assert not error_of(tickets[0]).may_have_executed


def test_a_refusal_after_a_try_without_answer_leaves_doubt() -> None:
    rig = Rig()
    ticket = rig.put()
    rig.turn()
    (second,) = rig.until_next_event()
    rig.refuse(second, 0)
    error = error_of(ticket)
    assert isinstance(error, Refused)
    assert error.may_have_executed
    assert "may have executed" in str(error)


def test_a_late_refusal_does_not_disturb_the_try_under_way() -> None:
    rig = Rig()
    ticket = rig.put()
    first = rig.only()
    (second,) = rig.until_next_event()
    rig.refuse(first, 0)
    assert not ticket.done
    rig.refuse(second, 0)
    assert not error_of(ticket).may_have_executed


@pytest.mark.parametrize("cluster", [7, 0])
def test_a_replica_of_another_cluster_is_told_from_a_silent_one(cluster: int) -> None:
    rig = Rig(cluster=8)
    ticket = rig.put()
    rig.turn()
    rig.receive(0, Kind.REFUSED, 0, 0, 0, -1, "frame of another cluster", cluster=cluster)
    error = error_of(ticket)
    assert isinstance(error, Refused)
    assert "cluster" in str(error)
    assert not error.may_have_executed


def test_a_refusal_of_one_of_several_unnamed_frames_leaves_doubt() -> None:
    rig = Rig(max_batch=1)
    tickets = [rig.put(), rig.put()]
    rig.turn()
    rig.receive(0, Kind.REFUSED, 0, 0, 0, -1, "what?")
    assert [error_of(ticket).may_have_executed for ticket in tickets] == [True, True]


# Connections


def test_connections_are_asked_for_when_needed() -> None:
    rig = Rig(up=False)
    assert rig.turn() == []
    assert rig.opened == []
    rig.put()
    assert rig.turn() == []
    assert rig.opened == [0]
    rig.session.rise(0)
    assert rig.only().replica == 0
    assert rig.opened == [0]


def test_a_replica_that_does_not_connect_costs_little() -> None:
    rig = Rig(up=False)
    rig.put()
    rig.turn()
    rig.until_next_event()
    assert rig.now == pytest.approx(100.0 + PATIENCE)
    assert rig.opened == [0, 1]
    rig.session.rise(1)
    assert rig.only().replica == 1
    rig.put()
    assert rig.only().replica == 1


def test_when_none_connects_nothing_was_sent() -> None:
    rig = Rig(up=False)
    ticket = rig.put()
    rig.turn()
    while not ticket.done:
        assert rig.until_next_event() == []
    assert rig.now == pytest.approx(102.0)
    assert rig.opened == [0, 1, 2]
    error = error_of(ticket)
    assert isinstance(error, NoAnswer)
    assert not error.may_have_executed
    assert str(error).startswith("alpha, bravo, charlie could not be reached within 2 s")


def test_the_preferred_replica_is_used_again_when_it_is_back() -> None:
    rig = Rig()
    rig.session.fall(0)
    rig.put()
    assert rig.only().replica == 1
    rig.session.rise(0)
    rig.put()
    assert rig.only().replica == 0


def test_a_silent_replica_is_avoided_for_a_while() -> None:
    rig = Rig()
    rig.put(timeout=0.3)
    rig.turn()
    rig.reply(rig.until_next_event()[0])
    rig.put()
    assert rig.only().replica == 1
    rig.now += AVOIDANCE
    rig.put()
    assert rig.only().replica == 0


def test_a_silent_replica_that_answers_late_is_trusted_again() -> None:
    rig = Rig()
    rig.put(timeout=0.3)
    silent = rig.only()
    rig.reply(rig.until_next_event()[0])
    rig.reply(silent)
    rig.put()
    assert rig.only().replica == 0


# Status


def test_a_status_is_asked_of_the_replica_named() -> None:
    rig = Rig()
    question = rig.ask(2, digest=True)
    rig.turn()
    assert rig.asked == [(2, 1, True)]
    rig.receive(2, Kind.STATUS_REPLY, 1, {"name": "charlie"})
    assert rig.finished() == [question]
    assert question.status == {"name": "charlie"}
    assert rig.session.next_event() == float("inf")


def test_a_status_is_asked_again_after_a_lost_connection() -> None:
    rig = Rig()
    rig.ask()
    rig.turn()
    rig.session.fall(0)
    rig.turn()
    assert [replica for replica, _, _ in rig.asked] == [0, 1]


def test_a_status_without_answer_fails() -> None:
    rig = Rig(up=False)
    question = rig.ask(1)
    rig.turn()
    assert rig.opened == [1]
    rig.later(2.0)
    assert rig.finished() == [question]
    assert isinstance(question.error, NoAnswer)
    assert not question.error.may_have_executed
    assert str(question.error) == "bravo could not be reached within 2 s"


def test_what_keeps_replicas_from_being_reached_is_said() -> None:
    rig = Rig(up=False)
    ticket, question = rig.put(), rig.ask(1)
    rig.turn()
    rig.session.hindered(0, "connection refused")
    rig.session.hindered(1, "host 'b.test' does not resolve")
    rig.later(2.0)
    assert str(error_of(ticket)) == (
        "alpha, bravo, charlie could not be reached within 2 s "
        "(alpha: connection refused; bravo: host 'b.test' does not resolve); the command was not sent"
    )
    assert str(question.error) == "bravo could not be reached within 2 s (host 'b.test' does not resolve)"
    rig.session.rise(0)
    rig.session.fall(0)
    ticket = rig.put()
    rig.turn()
    rig.later(2.0)
    assert "(bravo: host 'b.test' does not resolve)" in str(error_of(ticket))


def test_a_question_to_another_cluster_is_refused() -> None:
    rig = Rig()
    question = rig.ask(1)
    rig.turn()
    rig.receive(1, Kind.REFUSED, 0, 0, 0, -1, "frame of another cluster")
    assert rig.finished() == [question]
    assert isinstance(question.error, Refused)


def test_a_question_that_the_socket_did_not_take_is_asked_again() -> None:
    rig = Rig()
    rig.ask()
    (outgoing,) = rig.outgoing()
    rig.session.unsent(outgoing)
    rig.turn()
    assert rig.asked == [(1, 1, False)]


# The end


def test_closing_ends_everything_and_says_what_may_have_executed() -> None:
    rig = Rig()
    sent = rig.put()
    rig.turn()
    waiting = rig.put()
    question = rig.ask()
    rig.session.close()
    assert rig.finished() == [sent, waiting, question]
    assert isinstance(sent.error, Closed)
    assert isinstance(waiting.error, Closed)
    assert isinstance(question.error, Closed)
    assert (sent.error.may_have_executed, waiting.error.may_have_executed) == (True, False)
    assert rig.session.next_event() == float("inf")


def test_what_is_abandoned_is_not_sent_again_and_counts_as_acknowledged() -> None:
    rig = Rig()
    ticket = rig.put()
    sent = rig.only()
    rig.session.abandon(ticket)
    unsent = rig.puts(2)
    rig.session.abandon(unsent)
    rig.put()
    assert rig.only().batch.acked == 4
    rig.reply(sent)
    assert rig.finished() == []
    question = rig.ask()
    rig.session.abandon(question)
    rig.turn()
    assert rig.asked == []


def test_frames_that_are_none_of_the_protocol_are_counted_and_dropped() -> None:
    rig = Rig()
    ticket = rig.put()
    sent = rig.only()
    session = rig.session
    session.receive(0, b"", rig.now)
    session.receive(0, b"x" * 40, rig.now)
    rig.receive(0, Kind.REPLY, [session.id], [1])
    rig.receive(0, Kind.REPLY, [session.id], [1], [1], b"\x00", [1, 2])
    rig.receive(0, Kind.REPLY, [session.id], ["1"], [1], b"\x00", None)
    rig.receive(0, Kind.REPLY, [session.id + 1], [1], [1], b"\x00", None)
    rig.receive(0, Kind.BUSY, session.id + 1, 1, 1)
    rig.receive(0, Kind.BUSY, session.id, 1, None)
    rig.receive(0, Kind.REFUSED, session.id + 1, 1, 1, 0, "no")
    rig.receive(0, Kind.REFUSED, session.id, 1, 1, 0, b"no")
    rig.receive(0, Kind.STATUS_REPLY, 1, [])
    rig.receive(0, Kind.PEER, 1)
    assert session.bad_frames == 12
    assert not ticket.done
    rig.reply(sent)
    assert ticket.error is None


def test_an_answer_to_a_part_of_what_was_asked_is_no_answer() -> None:
    rig = Rig()
    ticket = rig.puts(3)
    sent = rig.only()
    rig.receive(0, Kind.REPLY, [rig.session.id], [1], [2], b"\x00\x00", None)
    assert not ticket.done
    rig.reply(sent)
    assert ticket.done


def test_answers_to_numbers_that_were_never_given_are_ignored() -> None:
    rig = Rig()
    ticket = rig.put()
    rig.turn()
    rig.receive(0, Kind.BUSY, rig.session.id, 2, 2**62)
    rig.receive(0, Kind.REPLY, [rig.session.id], [5], [1], b"\x00", None)
    rig.receive(0, Kind.STATUS_REPLY, 9, {})
    assert not ticket.done
    assert rig.session.bad_frames == 0


# What had to be sent again


def test_commands_that_were_sent_again_are_counted_by_reason() -> None:
    rig = Rig(timeout=2.0, tries=4)
    rig.put()
    rig.put()
    rig.only()
    rig.session.fall(0)
    assert rig.session.retries == {"silent": 0, "lost": 2, "busy": 0}
    rig.busy(rig.only())
    assert rig.session.retries == {"silent": 0, "lost": 2, "busy": 2}
    while not rig.until_next_event():
        pass
    while not rig.until_next_event():
        pass
    assert rig.session.retries == {"silent": 2, "lost": 2, "busy": 2}


# The end


def test_a_session_that_ends_acknowledges_everything() -> None:
    rig = Rig()
    rig.put()
    rig.reply(rig.only())
    rig.puts(5)
    rig.only()
    rig.session.fall(0)
    rig.session.close()
    farewell = rig.session.farewell()
    assert farewell is not None
    replica, frame = farewell
    kind, _, body, _ = open_frame(frame, ANY_CLUSTER, rig.options.max_frame)
    batch = decode_batch(body)
    assert (replica, kind) == (1, Kind.REQUEST)
    assert (batch.client, batch.first, batch.acked) == (rig.session.id, 7, 7)
    assert (batch.operations, batch.keys) == (bytes([Operation.NULL]), [b""])


def test_a_session_says_no_farewell_that_would_tell_nothing_or_reach_nobody() -> None:
    rig = Rig()
    assert rig.session.farewell() is None
    rig.put()
    rig.reply(rig.only())
    for replica in range(3):
        rig.session.fall(replica)
    assert rig.session.farewell() is None


def test_results_that_had_no_room_are_asked_for_again_at_once() -> None:
    rig = Rig(tries=1)
    ticket = rig.puts(5)
    done, untold = Outcome.DONE, Outcome.UNTOLD
    rig.reply(rig.only(), [b"1", None, None, b"4", None], bytes([done, untold, untold, done, untold]))
    first, second = rig.turn()
    assert (list(first.numbers), list(second.numbers)) == ([2, 3], [5])
    assert (first.replica, first.batch.keys) == (0, [b"key1", b"key2"])
    rig.reply(second, [b"5"])
    rig.reply(first, [b"2", None], bytes([done, untold]))
    (last,) = rig.turn()
    assert list(last.numbers) == [3]
    assert last.batch.acked == 3
    assert rig.finished() == []
    rig.reply(last, [b"3"])
    assert rig.finished() == [ticket]
    assert ticket.values == [b"1", b"2", b"3", b"4", b"5"]
    assert [ticket.error_at(position) for position in range(5)] == [None] * 5


def test_where_no_result_had_room_it_waits_longer_and_longer_and_says_so_in_the_end() -> None:
    rig = Rig(timeout=1.0)
    tickets = [rig.put(), rig.put()]
    rests = []
    while not tickets[0].done:
        sent = rig.turn()
        for one in sent:
            rig.reply(one, None, bytes([Outcome.UNTOLD] * len(one.batch)))
        assert rig.turn() == []
        rests.append(rig.session.next_event() - rig.now)
        rig.now = rig.session.next_event()
        rig.session.expire(rig.now)
    assert 0 < rests[0] <= 0.002
    assert 0.04 < max(rests) <= 0.1
    assert rig.finished() == tickets
    error = error_of(tickets[1])
    assert isinstance(error, Untold)
    assert error.may_have_executed
    assert "was executed, but its result did not come within 1 s" in str(error)


def test_a_connection_that_cannot_be_had_is_asked_for_again_and_the_next_one_at_once() -> None:
    rig = Rig(up=False)
    ticket = rig.put()
    rig.turn()
    assert rig.opened == [0]
    rig.session.broken(0, "no descriptor", rig.now)
    rig.turn()
    assert rig.opened == [0, 1]
    rig.session.broken(1, "no descriptor", rig.now)
    rig.turn()
    rig.session.broken(2, "no descriptor", rig.now)
    assert rig.turn() == []
    assert rig.session.next_event() == rig.now + REPAIR
    rig.until_next_event()
    assert rig.opened == [0, 1, 2, 0]
    rig.session.rise(0)
    rig.reply(rig.only())
    assert ticket.done
    assert ticket.error is None


def test_why_there_is_no_connection_is_told() -> None:
    rig = Rig(up=False)
    ticket = rig.put()
    question = rig.ask(1)
    rig.turn()
    rig.session.broken(0, "no descriptor", rig.now)
    rig.session.broken(1, "no such name", rig.now)
    rig.later(rig.options.timeout)
    text = "alpha, bravo, charlie could not be reached within 2 s (alpha: no descriptor; bravo: no such name)"
    assert str(error_of(ticket)) == f"{text}; the command was not sent"
    assert str(question.error) == "bravo could not be reached within 2 s (no such name)"


def test_a_connection_that_breaks_gives_back_what_was_under_way() -> None:
    rig = Rig()
    ticket = rig.put()
    assert rig.only().replica == 0
    rig.session.broken(0, "gone", rig.now)
    rig.reply(rig.only())
    assert ticket.done
    assert ticket.error is None


def test_a_command_whose_turn_never_came_is_not_said_to_be_unreachable() -> None:
    rig = Rig(window=1)
    first, second = rig.puts(5), rig.puts(5)
    rig.only()
    rig.later(rig.options.timeout)
    assert error_of(first).may_have_executed
    assert not error_of(second).may_have_executed
    assert str(error_of(second)) == "the command was not sent within 2 s, which those before it took"


def test_bytes_under_way_are_bounded() -> None:
    rig = Rig(max_frame=2**26)
    tickets = [rig.session.submit(Op.put(b"k", bytes(WINDOW_BYTES // 2)), rig.now) for _ in range(4)]
    sent = rig.turn()
    assert len(sent) == 2
    rig.reply(sent[0])
    assert len(rig.turn()) == 1
    huge = rig.session.submit(Op.put(b"k", bytes(2 * WINDOW_BYTES)), rig.now)
    rig.reply(sent[1])
    assert len(rig.turn()) == 1
    rig.reply(rig.sent[2])
    for batch in [*rig.turn(), rig.sent[3]]:
        rig.reply(batch)
    assert all(ticket.done for ticket in [*tickets, huge])


def test_a_ticket_in_pieces_can_be_aborted() -> None:
    rig = Rig()
    ticket = rig.puts(3)
    rig.refuse(rig.only(), 1)
    ticket.abort(NoAnswer("gone"))
    assert [str(ticket.error_at(position)) for position in range(3)] == [
        "gone",
        "alpha refused the command: no",
        "gone",
    ]


# How a session begins and ends


def answer_greeting(rig: Rig, generation: int | None) -> int:
    """Tell the session the generation that it asks for; returns the replica that it asked."""
    ((replica, number),) = rig.greeted
    rig.greeted.clear()
    rig.receive(replica, Kind.STATUS_REPLY, number, {"generation": generation})
    return replica


def over(rig: Rig, sent: Sent, generation: int = 40) -> None:
    batch = sent.batch
    rig.receive(sent.replica, Kind.OVER, batch.client, batch.first, len(batch), generation)


def test_a_session_asks_for_its_generation_before_its_first_command() -> None:
    rig = Rig(generation=None)
    assert rig.turn() == [] == rig.greeted
    rig.put()
    rig.puts(3)
    assert rig.turn() == []
    answer_greeting(rig, 7)
    assert [sent.batch.generation for sent in rig.turn()] == [7]
    rig.puts(3)
    assert rig.only().batch.generation == 7


@pytest.mark.parametrize(("told", "spoken"), [(None, 0), (-1, 0), (0, 0), (1, 1), (2, 1)])
def test_commands_are_of_the_level_of_the_cluster_or_the_newest_that_is_known(
    monkeypatch: pytest.MonkeyPatch, told: int | None, spoken: int
) -> None:
    """Numbers are counted from the oldest level that is known; one newer is known too."""
    monkeypatch.setattr(version, "NEWEST", version.OLDEST + 1)
    rig = Rig(generation=None)
    rig.put()
    rig.turn()
    replica, number = rig.greeted[-1]
    level = None if told is None else version.OLDEST + told
    rig.receive(replica, Kind.STATUS_REPLY, number, {"generation": 7, "level": level})
    ((_, frame, _),) = rig.outgoing()
    assert open_frame(frame, ANY_CLUSTER, rig.options.max_frame).level == version.OLDEST + spoken


def test_a_replica_that_does_not_tell_the_generation_is_left_for_another() -> None:
    rig = Rig(generation=None, timeout=3.0)
    ticket = rig.put()
    rig.turn()
    ((first, _),) = rig.greeted
    rig.greeted.clear()
    assert rig.later(1.0) == []
    assert answer_greeting(rig, 2) != first
    rig.reply(rig.only())
    assert rig.finished() == [ticket]
    assert ticket.error is None


def test_a_replica_that_does_not_know_the_generation_is_left_for_another_soon() -> None:
    rig = Rig(generation=None)
    ticket = rig.put()
    rig.turn()
    first = answer_greeting(rig, None)
    assert rig.turn() == [] == rig.greeted, "not at once"
    rig.until_next_event()
    assert rig.now < 100.01
    second = answer_greeting(rig, 4)
    sent = rig.only()
    assert first != second == sent.replica
    rig.reply(sent)
    assert rig.finished() == [ticket]
    assert ticket.error is None
    assert rig.session.bad_frames == 0


def test_where_no_replica_knows_the_generation_all_are_asked_with_pauses() -> None:
    rig = Rig(generation=None)
    ticket = rig.put()
    rig.turn()
    asked = []
    while not ticket.done:
        if rig.greeted:
            asked.append(answer_greeting(rig, None))
        rig.until_next_event()
    assert set(asked) == {0, 1, 2}
    assert len(asked) < 60
    assert isinstance(ticket.error, NoAnswer)
    assert not ticket.error.may_have_executed
    assert str(ticket.error) == (
        "alpha, bravo, charlie could not serve within 2 s, for want of a quorum; the command was not sent"
    )


def test_a_session_begins_as_soon_as_a_replica_knows_the_generation_again() -> None:
    rig = Rig(generation=None)
    ticket = rig.put()
    rig.turn()
    for _ in range(10):
        answer_greeting(rig, None)
        rig.until_next_event()
    answer_greeting(rig, 4)
    rig.reply(rig.only())
    assert rig.finished() == [ticket]
    assert rig.now < 101.0


def test_nobody_tells_the_generation() -> None:
    rig = Rig(generation=None, timeout=3.0)
    ticket = rig.put()
    for _ in range(4):
        rig.later(1.0)
    assert rig.finished() == [ticket]
    assert isinstance(ticket.error, NoAnswer)
    assert not ticket.error.may_have_executed


def test_a_stranger_that_is_asked_for_the_generation_fails_what_waits() -> None:
    rig = Rig(generation=None)
    ticket = rig.put()
    rig.turn()
    rig.receive(0, Kind.REFUSED, 0, 0, 0, -1, "another cluster")
    assert rig.finished() == [ticket]
    assert isinstance(ticket.error, Refused)


def test_after_a_long_silence_another_session_begins_unnoticed() -> None:
    rig = Rig(window=2)
    rig.put()
    rig.reply(rig.only())
    rig.finished()
    before = rig.session.id
    bulk, single = rig.puts(3), rig.put()
    first, second = rig.turn()
    over(rig, first)
    assert rig.turn() == [] == rig.greeted, "the other frame may still be executed"
    over(rig, second)
    assert rig.turn() == []
    answer_greeting(rig, 3)  # by a replica that is far behind
    again = rig.turn()
    assert {sent.batch.client for sent in again} == {rig.session.id} != {before}
    assert {sent.batch.generation for sent in again} == {40}
    assert sorted(number for sent in again for number in sent.numbers) == [2, 3, 4, 5]
    for sent in again:
        rig.reply(sent)
    assert sorted(rig.finished(), key=id) == sorted([bulk, single], key=id)
    assert bulk.error is None
    assert single.error is None


def test_what_may_have_executed_in_a_session_that_ended_is_not_tried_in_the_next() -> None:
    rig = Rig(timeout=3.0)
    lost = rig.put()
    rig.only()
    (again,) = rig.later(1.0)
    over(rig, again)
    rig.turn()
    answer_greeting(rig, 40)
    assert rig.turn() == []
    assert rig.finished() == [lost]
    assert isinstance(error_of(lost), SessionExpired)
    assert error_of(lost).may_have_executed
    later = rig.put()
    rig.reply(rig.only())
    assert rig.finished() == [later]


def test_a_command_that_came_after_the_end_of_its_session() -> None:
    rig = Rig()
    ticket = rig.put()
    rig.reply(rig.only(), outcomes=bytes([Outcome.EXPIRED]))
    assert rig.finished() == [ticket]
    with pytest.raises(SessionExpired) as caught:
        decode(Op.put(b"key", b"value"), Outcome.EXPIRED, None)
    assert caught.value.may_have_executed
    rig.put()
    rig.turn()
    answer_greeting(rig, 40)
    assert rig.only().batch.generation == 40
