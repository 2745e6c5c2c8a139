"""The Redis door, before a state machine without consensus: every reply, whatever comes in on a connection."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest.mock import Mock, patch

import pytest

from differential.compare import Side, replay
from differential.drawing import Drawing
from differential.talk import Gone, Talk, encoded
from epaxos.actors.doors import open_doors
from epaxos.config import load_config
from epaxos.config.model import ClientConfig
from epaxos.doors.gate import Gate
from epaxos.doors.redis.documents import markdown
from epaxos.doors.redis.door import TABLE, Door
from epaxos.doors.redis.glob import matcher
from epaxos.doors.redis.notices import PATTERNS, Notices
from epaxos.doors.redis.numbers import add_floats
from epaxos.doors.redis.resp import RedisError
from epaxos.doors.redis.walks import Cursors
from epaxos.errors import ConfigError
from epaxos.security.rights import Rights, Role
from epaxos.statemachine.batch import make_expirations
from epaxos.statemachine.expiry import Expiring, Generation
from epaxos.statemachine.operations import Operation
from lone_replica import LoneReplica

REPLIES = Path(__file__).parent / "replies-of-redis.jsonl"
"""Made by `tools/redis-differential --record FILE --seed 11 --commands 900`."""

ROOT = Path(__file__).resolve().parents[3]
OK, NIL = b"+OK\r\n", b"$-1\r\n"

Connect = Callable[[], Talk]


class Open:
    """A door that is open, and connections to it."""

    def __init__(self, stack: ExitStack, replica: LoneReplica, **options: float) -> None:
        self.replica = replica
        self.door: Door
        self.door, self.address = stack.enter_context(replica.redis(**options))
        self._stack = stack

    def talk(self) -> Talk:
        return self._stack.enter_context(Talk(self.address))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture
def opened(stack: ExitStack) -> Open:
    return Open(stack, LoneReplica())


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_replies_are_those_that_redis_gave(opened: Open) -> None:
    with closing(Side(opened.address)) as ours:
        assert list(map(str, replay(REPLIES.read_text().splitlines(), ours))) == []


def test_commands_are_drawn_the_same_from_a_seed() -> None:
    assert next(iter(Drawing(1))) == next(iter(Drawing(1)))


def test_the_documents_list_the_commands_that_there_are() -> None:
    text = (ROOT / "docs" / "redis.md").read_text()
    _, begin, rest = text.partition("<!-- commands: begin -->\n")
    table, end, _ = rest.partition("<!-- commands: end -->\n")
    assert begin
    assert end
    assert table == markdown(), "python -m epaxos.doors.redis.documents docs/redis.md"


def test_a_machine_of_a_program_has_no_door_for_clients_of_redis() -> None:
    config = replace(load_config(None, environ={}), machine="other")
    address = replace(config.replicas[0], redis_port=6379)
    stats = LoneReplica().stats
    with (
        pytest.raises(ConfigError, match="redis_port: found 6379; allowed: none where `machine`"),
        open_doors(config, address, ["127.0.0.1"], stats, Gate(), None),
    ):
        pass


def test_a_pipeline_is_one_instance(opened: Open) -> None:
    talk = opened.talk()
    requests = [[b"SET", b"k%d" % number, b"%d" % number] for number in range(100)]
    requests += [[b"GET", b"k%d" % number] for number in range(100)]
    replies = talk.ask_all(requests)
    assert replies == [OK] * 100 + [b"$%d\r\n%d\r\n" % (len(str(number)), number) for number in range(100)]
    assert len(opened.replica.instances) <= 3  # as many as there were pieces


def test_requests_that_come_byte_by_byte(opened: Open) -> None:
    talk = opened.talk()
    for byte in encoded([b"SET", b"k", b"v\r\n"]) + b"GET k\r\n":
        talk.send(bytes((byte,)))
    assert [talk.receive(), talk.receive()] == [OK, b"$3\r\nv\r\n\r\n"]


def test_what_is_wrong_is_told_behind_the_answers_before_it(opened: Open) -> None:
    talk = opened.talk()
    talk.send(encoded([b"SET", b"k", b"v"]) + b"*1\r\n:5\r\n" + encoded([b"GET", b"k"]))
    assert talk.receive() == OK
    assert talk.receive() == b"-ERR Protocol error: expected '$', got ':'\r\n"
    with pytest.raises(Gone):
        talk.receive()
    assert opened.door.counts["protocol_errors"] == 1


def test_who_says_no_more_is_answered_still(opened: Open) -> None:
    with socket.create_connection(opened.address) as plain:
        plain.sendall(b"SET k 1\r\nINCR k\r\n")
        plain.shutdown(socket.SHUT_WR)
        received = b""
        while more := plain.recv(1000):
            received += more
    assert received == b"+OK\r\n:2\r\n"


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["GET", ""], b"-ERR key of 0 bytes; 1 to 65536 are allowed\r\n"),
        (["GET", "x" * 65_537], b"-ERR key of 65537 bytes; 1 to 65536 are allowed\r\n"),
        (["SET", "k", b"x" * 1_048_577], b"-ERR Protocol error: invalid bulk length\r\n"),
        (
            ["SETRANGE", "k", "1048576", "x"],
            b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
        ),
        (
            ["SETRANGE", "k", "999999999999", "x"],
            b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
        ),
        (["LPUSH", "l", "1"], b"-ERR unknown command 'LPUSH', with args beginning with: 'l' '1' \r\n"),
        (["EVAL", "x\r\ny"], b"-ERR unknown command 'EVAL', with args beginning with: 'x  y' \r\n"),
        (["WAIT", "0", "0"], b":2\r\n"),
        (["MGET", *["k"] * 10_001], b"*10001\r\n" + NIL * 10_001),
        (["DEL", *["k"] * 10_001], b"-ERR too many keys; at most 10000 are allowed\r\n"),
    ],
)
def test_bounds_and_what_there_is_not(opened: Open, words: list[str | bytes], reply: bytes) -> None:
    assert opened.talk().ask(*words) == reply


def test_keys_of_the_service_cannot_be_touched(opened: Open) -> None:
    assert opened.talk().ask("SET", b"\0epaxos\0x", "1").startswith(b"-ERR key of 9 bytes; ")


def test_a_value_that_an_append_would_make_too_long(opened: Open) -> None:
    talk = opened.talk()
    talk.ask("SET", "k", b"x" * 1_048_576)
    assert (
        talk.ask("APPEND", "k", "x") == b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
    )
    assert talk.ask("STRLEN", "k") == b":1048576\r\n"


def test_version_three_from_hello_on(opened: Open) -> None:
    talk = opened.talk()
    replies = talk.ask_all(
        [[b"GET", b"k"], [b"HELLO", b"3"], [b"GET", b"k"], [b"CONFIG", b"GET", b"databases"]]
    )
    assert replies[0] == NIL
    assert replies[1].startswith(b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n")
    assert replies[2:] == [b"_\r\n", b"%1\r\n$9\r\ndatabases\r\n$1\r\n1\r\n"]
    assert talk.ask("INFO", "server").startswith(b"=")
    assert talk.ask("RESET") == b"+RESET\r\n"
    assert talk.ask("GET", "k") == NIL


def test_what_clients_ask_for_at_first(opened: Open) -> None:
    talk = opened.talk()
    for words in (["CLIENT", "SETINFO", "LIB-NAME", "x"], ["SELECT", "0"], ["CLIENT", "SETNAME", "me"]):
        assert talk.ask(*words) == OK
    assert b" name=me " in talk.ask("CLIENT", "LIST")
    assert b"lib-name=x" in talk.ask("CLIENT", "INFO")
    assert talk.ask("CLIENT", "LIST", "ID", "99999999") == b"$0\r\n\r\n"
    assert b"role:master" in talk.ask("INFO", "replication")
    count = int(talk.ask("COMMAND", "COUNT")[1:-2])
    assert talk.ask("COMMAND").startswith(b"*%d\r\n" % count)
    assert talk.ask("COMMAND", "INFO", "get", "nope").endswith(NIL)
    assert b"Get the value of a key" in talk.ask("COMMAND", "DOCS", "get")
    assert talk.ask("TIME").startswith(b"*2\r\n$10\r\n")
    assert talk.ask("CONFIG", "GET", "proto-*", "save").startswith(b"*4\r\n")


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("LCS a b", b"$6\r\nmytext\r\n"),
        ("LCS a b LEN", b":6\r\n"),
        ("LCS a none", b"$0\r\n\r\n"),
        ("LCS a b IDX LEN", b"-ERR If you want both the length and indexes, please just use IDX.\r\n"),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            b"*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n",
        ),
        ("OBJECT ENCODING a", b"$6\r\nembstr\r\n"),
        ("OBJECT ENCODING number", b"$3\r\nint\r\n"),
        ("OBJECT ENCODING none", NIL),
        ("OBJECT REFCOUNT a", b":1\r\n"),
        ("OBJECT IDLETIME a", b":0\r\n"),
        ("MOVE a 0", b"-ERR source and destination objects are the same\r\n"),
        ("MOVE a 1", b"-ERR DB index is out of range\r\n"),
        ("MOVE a x", b"-ERR value is not an integer or out of range\r\n"),
        ("PUBSUB CHANNELS", b"*1\r\n$16\r\n__keyspace@0__:a\r\n"),
        ("PUBSUB CHANNELS x*", b"*0\r\n"),
        ("PUBSUB NUMSUB __keyspace@0__:a x", b"*4\r\n$16\r\n__keyspace@0__:a\r\n:1\r\n$1\r\nx\r\n:0\r\n"),
        ("PUBSUB NUMPAT", b":1\r\n"),
        ("ROLE", b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
        ("CONFIG SET notify-keyspace-events KEA", OK),
        (
            "CONFIG SET databases 1",
            b"-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config\r\n",
        ),
    ],
)
def test_what_is_known_of_values_channels_and_settings(opened: Open, words: str, reply: bytes) -> None:
    talk, subscriber = opened.talk(), opened.talk()
    talk.ask("MSET", "a", "ohmytext", "b", "mynewtext", "number", "7")
    subscriber.ask("SUBSCRIBE", "__keyspace@0__:a")
    subscriber.ask("PSUBSCRIBE", "x*")
    assert talk.ask(*words.split()) == reply


# -- several connections ---------------------------------------------------------------------------------------


def test_a_command_that_is_more_than_an_operation_loses_no_update(opened: Open) -> None:
    talks = [opened.talk() for _ in range(4)]
    for _ in range(10):
        for talk in talks:
            talk.send(encoded([b"INCRBYFLOAT", b"f", b"0.5"]) + encoded([b"SETRANGE", b"r", b"2", b"x"]))
    for talk in talks:
        for _ in range(20):
            assert not talk.receive().startswith(b"-")
    assert talks[0].ask("GET", "f") == b"$2\r\n20\r\n"


@pytest.mark.parametrize(
    ("change", "aborts"),
    [
        (["SET", "k", "other"], True),
        (["SET", "k", "v"], True),
        (["DEL", "k", "none"], True),
        (["EXPIRE", "k", "100"], True),
        (["MSET", "a", "1", "k", "v"], True),
        (["RENAME", "other", "k"], True),
        (["COPY", "other", "k", "REPLACE"], True),
        (["GET", "k"], False),
        (["SETNX", "k", "x"], False),
        (["PERSIST", "k"], False),
        (["DEL", "none"], False),
        (["SET", "a", "1"], False),
    ],
)
def test_a_watched_key_that_changes_ends_the_transaction(
    opened: Open, change: list[str], *, aborts: bool
) -> None:
    watcher, other = opened.talk(), opened.talk()
    other.ask("MSET", "k", "v", "other", "v")
    assert watcher.ask("WATCH", "k") == OK
    other.ask(*change)
    replies = watcher.ask_all([[b"MULTI"], [b"SET", b"done", b"1"], [b"EXEC"]])
    assert replies[-1] == (b"*-1\r\n" if aborts else b"*1\r\n+OK\r\n")
    assert opened.door._watched == {}


@pytest.mark.parametrize(
    ("changes", "aborts"),
    [
        ([["SET", "k", "v", "EXAT", "1"]], True),
        ([["SET", "k", "v", "NX", "PXAT", "1"]], True),
        ([["SET", "k", "v", "XX", "EXAT", "1"]], False),
        ([["MULTI"], ["SETRANGE", "k", "1", "v"], ["DEL", "k"], ["EXEC"]], True),
        ([["MULTI"], ["SET", "k", "v"], ["DEL", "k"], ["EXEC"]], True),
        ([["DEL", "k"]], False),
        ([["EXPIREAT", "k", "1"]], False),
    ],
)
def test_a_watched_key_that_comes_and_goes_ends_the_transaction(
    opened: Open, changes: list[list[str]], *, aborts: bool
) -> None:
    watcher, other = opened.talk(), opened.talk()
    assert watcher.ask("WATCH", "k") == OK
    for change in changes:
        assert not other.ask(*change).startswith(b"-")
    assert other.ask("EXISTS", "k") == b":0\r\n"
    assert watcher.ask_all([[b"MULTI"], [b"EXEC"]])[-1] == (b"*-1\r\n" if aborts else b"*0\r\n")


def test_a_watched_key_that_changes_in_the_round_in_which_it_was_read_ends_the_transaction(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed and changed back, so that values alone would not tell; each command is an instance of one round."""
    opened.replica.config = replace(opened.replica.config, aggregate=False)
    watcher, other = opened.talk(), opened.talk()
    other.ask("SET", "k", "v")
    (client,) = opened.replica.gate.clients
    flush = opened.replica.clients.answers.flush
    monkeypatch.setattr(opened.replica.clients.answers, "flush", Mock())
    watcher.send(encoded([b"WATCH", b"k"]))
    wait_for(lambda: len(opened.replica.instances) == 2)
    other.send(encoded([b"SET", b"k", b"other"]) + encoded([b"SET", b"k", b"v"]))
    wait_for(lambda: sum(map(len, opened.replica.instances)) == 4)
    opened.door._loop.call_soon_threadsafe(flush, 0.0)
    assert watcher.receive() == OK
    assert watcher.ask_all([[b"MULTI"], [b"EXEC"]])[-1] == b"*-1\r\n"
    assert not client.waits


def test_a_watch_that_is_refused_watches_nothing(opened: Open) -> None:
    watcher, other = opened.talk(), opened.talk()
    assert watcher.ask("WATCH", "k") == OK
    opened.replica.clients.away = "it has no quorum"
    assert watcher.ask("WATCH", "l").startswith(b"-CLUSTERDOWN")
    opened.replica.clients.away = None
    assert {*opened.door._watched} == {b"k"}
    other.ask("SET", "l", "1")
    assert watcher.ask_all([[b"MULTI"], [b"EXEC"]])[-1] == b"*0\r\n"
    watcher.ask("WATCH", "k")
    watcher.close()
    wait_for(lambda: not opened.door._watched)


def test_what_came_by_a_checkpoint_may_have_changed_what_is_watched(opened: Open) -> None:
    watcher = opened.talk()
    watcher.ask("WATCH", "k")
    for client in opened.replica.gate.listening:
        client.miss()
    assert watcher.ask_all([[b"MULTI"], [b"EXEC"]])[-1] == b"*-1\r\n"


def test_a_command_of_a_transaction_that_fails_does_not_undo_the_others(opened: Open) -> None:
    talk = opened.talk()
    commands = [
        [b"MULTI"],
        [b"SET", b"a", b"x"],
        [b"INCR", b"a"],
        [b"SET", b"b", b"1"],
        [b"INCRBYFLOAT", b"b", b"1"],
        [b"EXEC"],
    ]
    replies = talk.ask_all(commands)
    assert replies[-1] == b"*4\r\n+OK\r\n-ERR value is not an integer or out of range\r\n+OK\r\n$1\r\n2\r\n"
    assert talk.ask("GET", "b") == b"$1\r\n2\r\n"


def test_reads_of_this_replica(opened: Open) -> None:
    talk = opened.talk()
    talk.ask("MSET", "a", "1", "b", "2")
    before = len(opened.replica.instances)
    replies = talk.ask_all(
        [
            [b"READONLY"],
            [b"GET", b"a"],
            [b"MGET", b"a", b"b", b"c"],
            [b"TTL", b"a"],
            [b"SUBSTR", b"a", b"x", b"1"],
        ]
    )
    assert replies[:3] == [OK, b"$1\r\n1\r\n", b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n" + NIL]
    assert replies[3:] == [b":-1\r\n", b"-ERR value is not an integer or out of range\r\n"]
    assert len(opened.replica.instances) == before
    talk.ask("READWRITE")
    talk.ask("GET", "a")
    assert len(opened.replica.instances) == before + 1


# -- all keys ------------------------------------------------------------------------------------------------


def test_a_walk_tells_each_key_once_whatever_is_inserted_meanwhile(opened: Open) -> None:
    talk, other = opened.talk(), opened.talk()
    talk.ask("MSET", *[word for number in range(95) for word in (f"k{number:03}", "v")])
    cursor = b"0"
    found: list[bytes] = []
    while True:
        other.ask("SET", f"new{len(found)}", "v")
        reply = talk.ask("SCAN", cursor, "MATCH", "k*", "COUNT", "10").split(b"\r\n")
        cursor, keys = reply[2], reply[5::2]
        found += keys
        if cursor == b"0":
            break
    assert found == [b"k%03d" % number for number in range(95)]
    assert talk.ask("SCAN", "0", "TYPE", "list", "COUNT", "2000") == b"*2\r\n$1\r\n0\r\n*0\r\n"
    assert talk.ask("SCAN", "99999") == b"-ERR invalid cursor\r\n"


def test_walks_are_remembered_up_to_a_bound() -> None:
    cursors = Cursors()
    numbers = [cursors.note(b"k%d" % number) for number in range(100_001)]
    with pytest.raises(RedisError, match="invalid cursor"):
        cursors.find(numbers[0])
    assert cursors.find(numbers[-1]) == b"k100000"


def test_a_number_of_another_replica_names_no_walk_here() -> None:
    here, there = Cursors(), Cursors()
    here.note(b"mine")
    number = there.note(b"k")
    assert 0 < number < 2**64
    with pytest.raises(RedisError, match="invalid cursor"):
        here.find(number)


def test_many_keys_page_by_page(opened: Open) -> None:
    talk = opened.talk()
    for part in range(3):
        talk.ask("MSET", *[word for number in range(4000) for word in (f"k{part}{number:04}", "v")])
    assert talk.ask("DBSIZE") == b":12000\r\n"
    assert talk.ask("KEYS", "k1*").startswith(b"*4000\r\n")
    assert talk.ask("KEYS", "k[12]000?").startswith(b"*20\r\n")
    assert talk.ask("RANDOMKEY").startswith(b"$6\r\nk0")
    assert talk.ask("FLUSHALL") == OK
    assert talk.ask("DBSIZE") == b":0\r\n"
    assert talk.ask("RANDOMKEY") == NIL
    assert opened.replica.instances.count(bytes((Operation.CLEAR,))) == 3


def test_clearing_changes_what_is_watched_and_tells_nobody(opened: Open) -> None:
    watcher, other, told = opened.talk(), opened.talk(), opened.talk()
    told.ask("PSUBSCRIBE", "*")
    other.ask("SET", "k", "v")
    assert told.receive() == encoded([b"pmessage", b"*", b"__keyspace@0__:k", b"set"])
    assert told.receive() == encoded([b"pmessage", b"*", b"__keyevent@0__:set", b"k"])
    absent = opened.talk()
    absent.ask("WATCH", "none")
    watcher.ask("WATCH", "k")
    other.ask("FLUSHDB")
    other.ask("SET", "k", "v")
    assert absent.ask_all([[b"MULTI"], [b"EXEC"]])[-1] == b"*0\r\n"
    assert watcher.ask_all([[b"MULTI"], [b"EXEC"]])[-1] == b"*-1\r\n"
    assert told.receive() == encoded([b"pmessage", b"*", b"__keyspace@0__:k", b"set"])


def test_all_keys_are_no_part_of_a_transaction(opened: Open) -> None:
    talk = opened.talk()
    replies = talk.ask_all([[b"MULTI"], [b"DBSIZE"], [b"EXEC"]])
    assert replies[1] == b"-ERR DBSIZE is about all keys, and no part of a transaction here\r\n"
    assert replies[2].startswith(b"-EXECABORT")


def test_a_walk_without_a_quorum_and_one_whose_client_goes(opened: Open) -> None:
    talk, gone = opened.talk(), opened.talk()
    opened.replica.gate.attach(lambda: None)
    gone.send(encoded([b"DBSIZE"]))
    wait_for(lambda: any(connection._walk for connection in list(opened.door.connections)))
    # As a process that is killed ends: of one that only says no more, the answer is waited for.
    gone._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    wait_for(lambda: len(opened.door.connections) == 1)
    opened.replica.clients.away = "it has no quorum"
    opened.replica.gate.attach(opened.replica.run)
    assert talk.ask("FLUSHALL") == b"-CLUSTERDOWN it has no quorum; nothing was executed\r\n"
    opened.replica.clients.away, opened.replica.clients.full = None, "its disk is full"
    told = b"-OOM only reads and deletes are taken: its disk is full; nothing was executed\r\n"
    assert talk.ask("SET", "k", "v") == told


# -- notifications -------------------------------------------------------------------------------------------


# -- rights that change ----------------------------------------------------------------------------------------


class Listed:
    """Stands for the list of passwords: everybody has the same rights, which change."""

    def __init__(self, change: Callable[[], bool] = lambda: False) -> None:
        self.rights: Rights | None = Rights("cache", Role.WRITE)
        self.changed: Rights | None = None
        self._change = change

    def still(self, *_: str) -> Rights | None:
        return self.changed if self._change() else self.rights


def listed(stack: ExitStack, replica: LoneReplica, passwords: Listed) -> Open:
    return Open(stack, replica, passwords=passwords)  # type: ignore[arg-type]  # all that the door needs of them


@pytest.mark.parametrize(
    ("rights", "reply"),
    [
        (None, b"-NOAUTH Authentication required.\r\n"),
        (Rights("cache", Role.READ), b"-NOPERM cache has the role read; SET needs the role write\r\n"),
        (
            Rights("cache", Role.WRITE, (b"c/",)),
            b'-NOPERM cache may not touch the key "k"; it has those that begin with "c/"\r\n',
        ),
    ],
)
def test_what_is_queued_is_judged_again_at_exec(
    stack: ExitStack, rights: Rights | None, reply: bytes
) -> None:
    passwords = Listed()
    talk = listed(stack, LoneReplica(), passwords).talk()
    assert talk.ask_all([[b"MULTI"], [b"SET", b"k", b"v"]]) == [OK, b"+QUEUED\r\n"]
    before, passwords.rights = passwords.rights, rights
    assert talk.ask(b"EXEC") == reply
    passwords.rights = before
    talk.ask(b"DISCARD")
    assert talk.ask(b"GET", b"k") == NIL


@pytest.mark.parametrize(
    ("operation", "words", "changed"),
    [
        (Operation.CLEAR, [b"FLUSHALL"], Rights("cache", Role.READ)),
        (Operation.SCAN, [b"KEYS", b"*"], Rights("cache", Role.WRITE, (b"c/",))),
        (Operation.SCAN, [b"KEYS", b"*"], None),
    ],
)
def test_each_page_of_a_walk_is_judged(
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    operation: Operation,
    words: list[bytes],
    changed: Rights | None,
) -> None:
    for pages in ("_CLEARED", "_PAGE"):
        monkeypatch.setattr(f"epaxos.doors.redis.walks.{pages}", 2)
    replica = LoneReplica()
    passwords = Listed(lambda: any(operation in instance for instance in replica.instances))
    passwords.changed = changed
    talk = listed(stack, replica, passwords).talk()
    talk.ask(b"MSET", *(word for number in range(5) for word in (b"k%d" % number, b"v")))
    assert talk.ask(*words).startswith(b"-NOPERM cache" if changed else b"-NOAUTH")
    assert sum(operation in instance for instance in replica.instances) == 1


def test_who_has_not_all_keys_any_more_is_told_nothing_of_them(stack: ExitStack) -> None:
    passwords = Listed()
    opened = listed(stack, LoneReplica(), passwords)
    subscriber, other = opened.talk(), opened.talk()
    subscriber.ask(b"PSUBSCRIBE", b"*")
    passwords.rights = Rights("cache", Role.WRITE, (b"c/",))
    assert other.ask(b"SET", b"c/k", b"v") == OK
    with pytest.raises(Gone):
        subscriber.receive()


def message(*words: bytes) -> bytes:
    return encoded(words)


def test_changes_are_told_to_who_subscribes(opened: Open) -> None:
    one, other = opened.talk(), opened.talk()
    one.send(encoded([b"SUBSCRIBE", b"__keyspace@0__:k", b"__keyevent@0__:del"]))
    assert [one.receive(), one.receive()] == [
        b"*3\r\n$9\r\nsubscribe\r\n$16\r\n__keyspace@0__:k\r\n:1\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$18\r\n__keyevent@0__:del\r\n:2\r\n",
    ]
    changes = [[b"SET", b"k", b"1", b"EX", b"100"], [b"INCR", b"k"], [b"GET", b"k"], [b"DEL", b"k", b"x"]]
    other.ask_all([*changes, [b"DEL", b"x"]])
    told = [one.receive() for _ in range(5)]
    where, deleted = b"__keyspace@0__:k", b"__keyevent@0__:del"
    assert told[:3] == [message(b"message", where, event) for event in (b"set", b"expire", b"incrby")]
    assert told[3:] == [message(b"message", where, b"del"), message(b"message", deleted, b"k")]
    assert one.ask("GET", "k").startswith(b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE")
    assert one.ask("PING") == b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    assert one.ask("RESET") == b"+RESET\r\n"
    assert one.ask("GET", "k") == NIL
    assert not opened.door.notices
    assert opened.replica.gate.listening == []


def test_patterns_in_version_three(opened: Open) -> None:
    talk = opened.talk()
    talk.ask("HELLO", "3")
    assert talk.ask("PSUBSCRIBE", "__key*__:[jk]?").startswith(b">3\r\n$10\r\npsubscribe")
    assert sorted([talk.ask("SET", "k1", "v"), talk.receive()]) == [
        OK,
        b">4\r\n$8\r\npmessage\r\n$14\r\n__key*__:[jk]?\r\n$17\r\n__keyspace@0__:k1\r\n$3\r\nset\r\n",
    ]
    assert talk.ask("PUNSUBSCRIBE") == b">3\r\n$12\r\npunsubscribe\r\n$14\r\n__key*__:[jk]?\r\n:0\r\n"
    assert talk.ask("UNSUBSCRIBE") == b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"
    assert talk.ask("PSUBSCRIBE", "x" * 257).startswith(b"-ERR pattern of 257 bytes")
    many = talk.ask("PSUBSCRIBE", *[f"{number}*" for number in range(PATTERNS + 1)])
    assert many == b"-ERR too many patterns; at most 256 of all clients are allowed\r\n"
    assert not opened.door.notices


def test_a_key_that_ends_is_told(opened: Open) -> None:
    talk, machine = opened.talk(), opened.replica.machine
    talk.ask("SUBSCRIBE", "__keyevent@0__:expired")
    (client,) = opened.replica.gate.listening
    client.observe_end([b"k"])
    client.flush()
    assert talk.receive() == message(b"message", b"__keyevent@0__:expired", b"k")
    value = Expiring.of(b"v", 1, Generation(1, 2, 0))
    machine.load([(b"k", value)])
    ended = [(b"k", value.generation), (b"none", value.generation)]
    payload = make_expirations(ended, opened.replica.limits.bounds)
    assert opened.replica.gate.ending(payload, machine.get) == [b"k"]


def test_subscribers_are_cut_where_changes_were_missed(opened: Open) -> None:
    talk = opened.talk()
    talk.ask("SUBSCRIBE", "a")
    for client in opened.replica.gate.listening:
        client.miss()
    with pytest.raises(Gone):
        talk.receive()


def test_changes_are_told_a_little_at_a_time() -> None:
    """However many there are: others have their turn, and who cannot be told of all is cut."""

    async def test() -> None:
        now = iter(range(10**6))
        notices = Notices(lambda: float(next(now)))
        connection = Mock()
        notices.add(connection, b"*space*", pattern=True)
        notices.tell([(b"k", b"set")] * 3)
        assert connection.push.call_count == 1
        notices.tell([(b"k", b"set")])
        assert connection.push.call_count == 1
        for told in (2, 3, 4, 4):
            await asyncio.sleep(0)
            assert connection.push.call_count == told
        notices.tell([(b"k" * 60_000, b"set")] * 300)
        connection.cut.assert_called_once_with()

    asyncio.run(test())


def test_a_subscriber_that_does_not_read_is_cut(opened: Open) -> None:
    stuck, talk = opened.talk(), opened.talk()
    stuck.ask("PSUBSCRIBE", "*")
    requests = [[b"SET", b"k" * 1000, b"v"]] * 1000

    def cut() -> bool:
        talk.ask_all(requests)
        return opened.door.counts["cut"] == 1

    wait_for(cut)
    wait_for(lambda: len(opened.door.connections) == 1)  # it is counted before it is gone


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (b"a*c", b"abbc", b"abbd"),
        (b"h[a-c]llo", b"hbllo", b"hdllo"),
        (b"h[^a]?", b"hbx", b"hax"),
        (rb"\*[\]x]", b"*]", b"a]"),
        (b"a\\", b"a\\", b"a"),
        (b"*a*b*", b"xaxbx", b"xbxax"),
        (b"*.*", b"a.b", b"ab"),
    ],
)
def test_patterns(pattern: bytes, yes: bytes, no: bytes) -> None:
    assert matcher(pattern)(yes)
    assert not matcher(pattern)(no)


def test_a_pattern_takes_no_time_that_explodes() -> None:
    assert not matcher(b"*a" * 500 + b"*b")(b"a" * 65_000)


# -- a replica that cannot serve -------------------------------------------------------------------------------


def test_nothing_is_executed_without_a_quorum(opened: Open) -> None:
    opened.replica.clients.away = "it has no quorum"
    talk = opened.talk()
    for words in (["SET", "k", "1"], ["INCRBYFLOAT", "k", "1"], ["WATCH", "k"]):
        assert talk.ask(*words) == b"-CLUSTERDOWN it has no quorum; nothing was executed\r\n"
    assert talk.ask("PING") == b"+PONG\r\n"


def test_what_has_no_answer_in_time_may_have_been_executed(stack: ExitStack) -> None:
    opened = Open(stack, LoneReplica(client=ClientConfig(0.05, 1)))
    opened.replica.gate.attach(lambda: None)
    talk = opened.talk()
    assert talk.ask("INCR", "n") == b"-ERR no answer within 0.05 s; the command may have been executed\r\n"


# -- clients that do not behave --------------------------------------------------------------------------------


def test_who_does_not_read_is_cut(stack: ExitStack) -> None:
    opened = Open(stack, LoneReplica(), patience=0.05)
    talk, stuck = opened.talk(), opened.talk()
    talk.ask("SET", "k", b"x" * 1_000_000)
    stuck.send(encoded([b"GET", b"k"]) * 100)
    wait_for(lambda: opened.door.counts["cut"] == 1)
    assert talk.ask("PING") == b"+PONG\r\n"
    assert len(opened.door.connections) == 1


def test_more_connections_than_may_be(opened: Open) -> None:
    opened.door.most = 2
    talks = [opened.talk() for _ in range(2)]
    for talk in talks:
        talk.ask("PING")
    third = opened.talk()
    assert third.receive() == b"-ERR max number of clients reached\r\n"
    with pytest.raises(Gone):
        third.receive()
    talks[0].close()
    wait_for(lambda: len(opened.door.connections) < 2)
    assert opened.talk().ask("PING") == b"+PONG\r\n"


def test_requests_that_are_not_finished_are_bounded_together(stack: ExitStack) -> None:
    opened = Open(stack, LoneReplica(max_frame=2_000_000))
    opened.door.most_held = 3_000_000
    part = encoded([b"MSET", b"k", b"x" * 1_000_000, b"l", b"x" * 900_000])[:-10]
    first, second = opened.talk(), opened.talk()
    first.send(part)
    wait_for(lambda: opened.door.held > 1_000_000)
    second.send(part)
    assert second.receive() == b"-ERR Protocol error: no room for so much now\r\n"
    first.close()
    wait_for(lambda: opened.door.held == 0)


def test_what_is_kept_for_connections_is_bounded_together(stack: ExitStack) -> None:
    opened = Open(stack, LoneReplica())
    opened.door.most_held = 1_000_000
    large = b"x" * 300_000
    talk = opened.talk()
    talk.ask("SET", "k", large)
    kept = [
        ([b"MULTI"], [b"SET", b"k", large]),
        ([b"WATCH", b"k"],),
        ([b"CLIENT", b"SETNAME", large],),
        ([b"SUBSCRIBE", *[b"%d" % number * 60_000 for number in range(5)]],),
    ]
    for requests in kept:
        talk = opened.talk()
        for request in requests:
            talk.ask_all([request])
        wait_for(lambda: opened.door.held >= 300_000)
        talk.close()
        wait_for(lambda: opened.door.held == 0)
    talks = [opened.talk() for _ in range(4)]
    for talk in talks[:3]:
        talk.ask("CLIENT", "SETNAME", large)
    talks[3].send(encoded([b"CLIENT", b"SETNAME", large]))
    with pytest.raises(Gone):
        list(iter(talks[3].receive, b""))
    long = opened.talk().ask("SUBSCRIBE", b"x" * 70_000)
    assert long == b"-ERR channel of 70000 bytes; at most 65568 are allowed\r\n"
    assert opened.talk().ask("WATCH", *map(str, range(10_001))).startswith(b"-ERR too many watched keys")


def test_who_does_not_end_a_request_is_cut(stack: ExitStack) -> None:
    opened = Open(stack, LoneReplica(), patience=0.05)
    talk, idle = opened.talk(), opened.talk()
    idle.ask("PING")
    talk.send(encoded([b"PING"]) + b"*2\r\n$3\r\nGET\r\n")
    assert talk.receive() == b"+PONG\r\n"
    with pytest.raises(Gone):
        talk.receive()
    assert idle.ask("PING") == b"+PONG\r\n"
    (connection,) = opened.door.connections
    there = connection.transport.get_extra_info("socket")
    assert there.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_replies_are_made_as_they_leave(opened: Open) -> None:
    """A thousand parts of one value are not there a thousand times while nobody reads them."""
    talk = opened.talk()
    talk.ask("SET", "k", b"x" * 1_000_000)
    made = Mock(wraps=TABLE[b"getrange"].apply)
    with patch.object(TABLE[b"getrange"], "apply", made):
        talk.send(encoded([b"GETRANGE", b"k", b"0", b"-2"]) * 100)
        wait_for(lambda: any(connection.stuck_since for connection in opened.door.connections))
        assert 0 < made.call_count < 50
        assert len([talk.receive() for _ in range(100)]) == made.call_count == 100


def test_results_that_are_too_large_together(stack: ExitStack) -> None:
    talk = Open(stack, LoneReplica(max_frame=16_384, max_value=4096)).talk()
    for key in "abcde":
        talk.ask("SET", key, b"x" * 4000)
    wrong = b"-ERR the results together are too large for one reply"
    assert talk.ask("MGET", *"abcde") == wrong + b"; nothing was executed\r\n"
    assert talk.ask("MGET", *"aaaaa") == wrong + b"\r\n"
    for more in ([b"GET", b"a"], [b"SETRANGE", b"n", b"1", b"x"]):
        queued = [[b"MULTI"], *[[b"GETRANGE", b"a", b"0", b"-1"]] * 5, more, [b"EXEC"]]
        assert talk.ask_all(queued)[-1] == wrong + b"; nothing was executed\r\n"
    assert talk.ask("EXISTS", "n") == b":0\r\n"
    assert talk.ask("APPEND", "a", b"x" * 100).startswith(b"-ERR string exceeds maximum allowed size")


def test_random_bytes_end_a_connection_at_most(opened: Open) -> None:
    """Pieces of requests, mutated; a door that has failed would answer nobody any more."""
    random = Random(1)
    sample = b"".join(
        encoded(command) for step, _ in zip(Drawing(2), range(50), strict=False) for command in step.commands
    )
    for _ in range(150):
        data = bytearray(sample[: random.randrange(len(sample))])
        for _ in range(random.randrange(5)):
            data[random.randrange(len(data)) if data else 0 : random.randrange(len(data) + 1)] = (
                random.randbytes(random.randrange(9))
            )
        with socket.create_connection(opened.address) as plain:
            plain.sendall(data)
            if random.random() < 0.5:  # end as a process that was killed
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: not opened.door.connections)
    assert opened.talk().ask("PING") == b"+PONG\r\n"
    assert opened.door.held == 0


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1", b"GET k HTTP/1.1\r\nHost: localhost:6379"])
def test_a_page_in_a_browser_asks_for_nothing(opened: Open, line: bytes) -> None:
    talk = opened.talk()
    talk.send(line + b"\r\n\r\nSET k v\r\n")
    with pytest.raises(Gone):
        list(iter(talk.receive, b""))
    assert opened.talk().ask("GET", "k") == NIL
    assert opened.door.counts["protocol_errors"] == 1


def test_a_fault_of_ours_ends_its_connection_alone(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TABLE[b"setrange"], "apply", Mock(side_effect=ValueError))
    talk, other = opened.talk(), opened.talk()
    talk.send(encoded([b"SETRANGE", b"k", b"1", b"x"]))
    with pytest.raises(Gone):
        talk.receive()
    assert other.ask("GET", "k") == NIL


# -- floats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "increment", "total"),
    [
        (b"0.1", b"0.2", b"0.3"),
        (b"3000", b"-1.23456789012345678", b"2998.76543210987654331"),
        (b"2998.76543210987654331", b"1e20", b"100000000000000003000"),
        (b"1.", b".5", b"1.5"),
        (b"-.5e1", b"+1", b"-4"),
        (b"-0", b"0", b"0"),
        (b"0e99999", b"1", b"1"),
        (b"0." + b"1" * 4500, b"1", b"1.11111111111111111"),
        (b"0" * 5000 + b"1", b"1", b"2"),
    ],
)
def test_floats_add_as_those_of_80_bits(value: bytes, increment: bytes, total: bytes) -> None:
    assert add_floats(value, increment) == total


@pytest.mark.parametrize(
    "text", [b"", b".", b"e5", b" 1", b"1 ", b"1e5000", b"1e-5000", b"nan", b"1,5", b"9" * 6000]
)
def test_what_is_no_float(text: bytes) -> None:
    with pytest.raises(RedisError, match=re.escape("ERR value is not a valid float")):
        add_floats(b"1", text)


def test_a_sum_that_is_too_large() -> None:
    with pytest.raises(RedisError, match="NaN or Infinity"):
        add_floats(b"1e4932", b"1e4932")
    assert len(add_floats(b"1e4931", b"1")) == 4932
