"""What `epaxos inspect` tells of a directory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from directories import N, configuration, open_directory, record, write, write_checkpoint, write_log
from epaxos.cli.main import main
from epaxos.errors import StorageError
from epaxos.inspection.contents import Contents, read_contents
from epaxos.inspection.graph import Node, choose, make_graph, reduced
from epaxos.inspection.place import describe, state_of
from epaxos.inspection.summary import summarise
from epaxos.inspection.wording import (
    bytes_text,
    command_lines,
    keys_text,
    place_name,
    read_place,
    row_name,
    vector_text,
)
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import NOP, Instance, Phase
from epaxos.protocol.membership import NOBODY, Configuration, joined, nobody
from epaxos.statemachine.batch import decode_batch, decode_payload, encode_batch, make_payload
from epaxos.statemachine.operations import Operation
from epaxos.storage.journal import Journal

A, B, C = range(N)
COMMITTED, PREACCEPTED = Phase.COMMITTED, Phase.PREACCEPTED

RECORDS = [
    record(InstanceId(A, 2), COMMITTED, (1, -1, -1)),
    record(InstanceId(A, 3), COMMITTED, (2, 1, -1)),
    record(InstanceId(B, 0), COMMITTED),
    record(InstanceId(C, 0), PREACCEPTED, (3, 0, -1)),
]
"""A.3 waits for B.1, of which nothing is known; of C only the first slot was heard of before C.5."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of a replica that stopped in the middle of things."""
    config = configuration(tmp_path)
    engine = open_directory(config, "bravo")
    journal = write_log(engine, N, RECORDS, truncated=(1, -1, -1))
    journal.remember("bravo", 0xB)
    journal.remember("charlie", 0xC)
    entry = record(InstanceId(C, 5), COMMITTED, payload=write(b"five", b"5"))
    values = {b"one": b"1", b"five": b"5"}
    sessions = [[7, 1, [1, 3], [1, 3], [], 0]]
    write_checkpoint(engine, (1, -1, -1), values, sessions, [entry], deleted=[b"gone"])
    engine.close()
    return tmp_path / "bravo"


@pytest.fixture
def contents(directory: Path) -> Contents:
    return read_contents(directory)


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_the_whole(contents: Contents) -> None:
    told = summarise(contents)
    json.dumps(told)
    assert (told["name"], told["row"], told["n"], told["used_by"]) == ("bravo", B, N, None)
    columns = ("truncated", "checkpoint", "executed", "committed", "highest", "incarnation")
    assert [tuple(row[name] for name in columns) for row in told["rows"]] == [
        (1, 1, 2, 3, 3, None),
        (-1, -1, 0, 0, 1, f"{contents.identity.incarnation:016x}"),
        (-1, -1, -1, -1, 5, "000000000000000c"),
    ]
    assert (told["epoch"], told["members"], told["f"]) == (0, ["alpha", "bravo", "charlie"], 1)
    assert told["instances"] == {"initial": 0, "preaccepted": 1, "accepted": 0, "committed": 4}
    assert told["undecided"] == {"count": 6, "lowest": ["B.1", "C.0", "C.1", "C.2", "C.3", "C.4"]}
    assert told["waiting"] == {"count": 1, "lowest": ["A.3"]}
    assert told["executed_above"] == {"count": 1, "lowest": ["C.5"]}
    assert told["checkpoint"] == {"epoch": 0, "keys": 2, "deleted": 1, "sessions": 1}
    assert told["sizes"]["log.db"] > 0


def test_a_directory_without_a_past(tmp_path: Path) -> None:
    engine = open_directory(configuration(tmp_path), "alpha")
    with pytest.raises(StorageError, match="alpha holds nothing yet: alpha has never run on it"):
        read_contents(tmp_path / "alpha")
    write_log(engine, N, [])
    engine.close()
    told = summarise(read_contents(tmp_path / "alpha"))
    assert told["checkpoint"] is None
    assert told["undecided"]["count"] == told["waiting"]["count"] == 0
    assert {row["highest"] for row in told["rows"]} == {-1}


@pytest.mark.parametrize("protocol", ["epaxos", "multipaxos"])
def test_one_that_joined_has_a_row_while_it_votes_and_else_none(
    tmp_path: Path, run: Callable[..., Result], protocol: str
) -> None:
    engine = open_directory(configuration(tmp_path), "delta", joins=True)
    me = joined("delta", engine.incarnation)
    journal = Journal(engine, nobody(protocol), decode_payload)
    journal.load()
    for epoch, names in enumerate([(NOBODY,), ("alpha", me, "bravo"), ("alpha", "bravo")]):
        if epoch:
            journal.begin(Configuration(epoch, protocol, names, (len(names) - 1) // 2, 0, 1))
        journal.persist([record(InstanceId(A, 0), COMMITTED, (-1,) * KINDS[protocol].rows(len(names)))])
        shown = run(tmp_path / "delta")
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert f"replica delta, {'row B of 3' if me in names else 'no vote'}, cluster" in shown.stdout
    engine.close()


def test_looking_does_not_change_what_is_seen(contents: Contents) -> None:
    assert contents.progress.executed == (2, 0, -1)
    assert [contents.records[told.id].phase for told in RECORDS] == [told.phase for told in RECORDS]


def test_states(contents: Contents) -> None:
    expected = {
        "A.1": "dropped",
        "A.2": "executed",
        "A.3": "waiting",
        "B.1": "unknown",
        "C.0": "preaccepted",
        "C.5": "executed",
    }
    assert {name: state_of(contents, read_place(name, N)) for name in expected} == expected


def test_one_instance(contents: Contents) -> None:
    told = describe(contents, InstanceId(A, 3))
    json.dumps(told)
    assert told["instance"] == "A.3"
    assert told["phase"] == "committed"
    assert (told["bal"], told["abal"], told["seq"]) == (0, 0, 5)
    assert told["deps"] == "A.2 B.1"
    assert told["init"] == "deps A.2 B.1, seq 5"
    assert told["commands"] == ["client 0000000000000001 request 1: WRITE 'key' '0.3'"]
    assert told["depends_on"] == [
        {"instance": "A.2", "state": "executed"},
        {"instance": "B.1", "state": "unknown"},
    ]
    assert told["needed_by"] == [{"instance": "C.0", "state": "preaccepted", "of_its_row": 1}]


def test_an_instance_of_which_nothing_is_known(contents: Contents) -> None:
    told = describe(contents, InstanceId(B, 1))
    assert told == {
        "instance": "B.1",
        "state": "unknown",
        "needed_by": [{"instance": "A.3", "state": "waiting", "of_its_row": 1}],
    }


# -- the graph ---------------------------------------------------------------------------------------------


def graph_of(*records: Instance) -> dict[InstanceId, Instance]:
    return {made.id: made for made in records}


def test_an_edge_that_another_one_implies_is_left_out() -> None:
    records = graph_of(
        record(InstanceId(A, 0), COMMITTED),
        record(InstanceId(B, 0), COMMITTED, (0, -1, -1)),
        record(InstanceId(C, 0), COMMITTED, (0, 0, -1)),
    )
    assert reduced(records[InstanceId(C, 0)], records) == [InstanceId(B, 0)]
    assert reduced(records[InstanceId(B, 0)], records) == [InstanceId(A, 0)]


def test_of_a_cycle_one_edge_stays() -> None:
    records = graph_of(
        record(InstanceId(A, 0), COMMITTED, (-1, 0, -1)),
        record(InstanceId(B, 0), COMMITTED, (0, -1, -1)),
        record(InstanceId(C, 0), COMMITTED, (0, 0, -1)),
    )
    assert reduced(records[InstanceId(C, 0)], records) == [InstanceId(B, 0)]
    assert reduced(records[InstanceId(A, 0)], records) == [InstanceId(B, 0)]


def test_what_a_cycle_depends_on_is_not_left_out_by_all_its_members() -> None:
    records = graph_of(
        record(InstanceId(A, 0), COMMITTED),
        record(InstanceId(A, 1), COMMITTED, (0, -1, 0)),
        record(InstanceId(B, 0), COMMITTED, (1, -1, -1)),
        record(InstanceId(C, 0), COMMITTED, (0, 0, -1)),
    )
    edges = {(place, other) for place, found in records.items() for other in reduced(found, records)}
    assert any(other == InstanceId(A, 0) for _, other in edges)
    graph = make_graph(N, [Node(place, "executed", "") for place in records], records, {}, 0)
    assert graph.cycles == [(InstanceId(A, 1), InstanceId(B, 0), InstanceId(C, 0))]
    assert graph.columns == {
        InstanceId(A, 0): 0,
        InstanceId(A, 1): 1,
        InstanceId(B, 0): 2,
        InstanceId(C, 0): 3,
    }


def test_the_graph_of_what_is_pending(contents: Contents) -> None:
    graph = choose(contents, None, 2, 50)
    states = {place_name(node.place): node.state for node in graph.nodes}
    assert states["B.1"] == "unknown"
    assert states["A.3"] == "waiting"
    edges = {(place_name(place), place_name(other)) for place, other in graph.edges}
    assert edges >= {("A.3", "B.1"), ("A.3", "A.2"), ("A.2", "A.1"), ("C.0", "A.3")}
    assert graph.left_out == 0


def test_depth_and_number_of_nodes_are_limits(contents: Contents) -> None:
    near = choose(contents, InstanceId(A, 3), 1, 50)
    assert [place_name(node.place) for node in near.nodes] == ["A.2", "A.3", "B.1", "C.0"]
    few = choose(contents, InstanceId(A, 3), 1, 2)
    assert InstanceId(A, 3) in {node.place for node in few.nodes}
    assert (len(few.nodes), few.left_out) == (2, 2)
    alone = choose(contents, InstanceId(B, 99), 3, 50)
    assert [(node.state, node.note) for node in alone.nodes] == [("unknown", "B.99: unknown")]


def test_the_drawing_has_a_box_for_each_node_and_an_arrow_for_each_edge(
    directory: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(directory, "--graph", tmp_path / "g.svg", "--around", "a.3", "--depth", 1)
    assert result.exit_code == 0, result.output
    svg = ET.parse(tmp_path / "g.svg")
    space = {"s": "http://www.w3.org/2000/svg"}
    boxes = {group.findtext("s:text", "", space) for group in svg.iterfind(".//s:g", space)}
    assert boxes == {"A.2", "A.3", "B.1", "C.0"}
    assert len(svg.findall(".//s:path[@class='edge']", space)) == 3
    assert "around A.3: 4 instances" in result.stdout
    assert [text.text for text in svg.iterfind(".//s:text[@class='keys']", space)] == ["key"] * 3
    left = {
        group.findtext("s:text", "", space): float(rectangle.attrib["x"])
        for group in svg.iterfind(".//s:g", space)
        for rectangle in group.iterfind("s:rect", space)
    }
    assert left["A.2"] == left["B.1"] < left["A.3"] < left["C.0"], "in the order of execution"


def test_the_graph_for_graphviz(directory: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(directory, "--graph", tmp_path / "g.dot", "--around", "a.3", "--depth", 1)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "g.dot").read_text().splitlines()
    assert lines[0].startswith("digraph ")
    assert '  "A.3" -> "B.1";' in lines
    assert '  { rank=same; "A.2" "B.1" }' in lines
    assert any('"A.3" [label="A.3\\nkey", tooltip="A.3: waiting, ' in line for line in lines)


# -- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["B.17", "b.17", "1.17"])
def test_places_are_read_as_people_write_them(text: str) -> None:
    assert read_place(text, N) == InstanceId(B, 17)


@pytest.mark.parametrize("text", ["", "B", "B17", "B.-1", "D.0", "3.0", "B.1.2", "BB.1"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: "):
        read_place(text, N)


def test_names() -> None:
    assert (row_name(0), row_name(25), row_name(26)) == ("A", "Z", "26")
    assert (vector_text((-1, -1)), vector_text((3, -1, 0))) == ("-", "A.3 C.0")
    assert bytes_text(b"name") == "'name'"
    assert bytes_text(b"\x00\xff") == "0x00ff"
    assert bytes_text(b"it's") == "0x69742773"
    keys = [keys_text(write(key.encode(), b""), 9) for key in ("short", "a-long-key")]
    assert [*keys, keys_text(None, 9)] == ["short", "a-long-k…", ""]
    encoded = encode_batch(1, 1, 1, bytes([Operation.WRITE]) * 3, [b"a/1", b"b/2", b"c/345"], [b""] * 3)
    assert [keys_text(make_payload([decode_batch(encoded)]), most) for most in (99, 10, 6)] == [
        "a/1 b/2 c/345",
        "a/1 b/2 +1",
        "a/1 +2",
    ]
    assert bytes_text(b"x" * 100) == f"'{'x' * 48}'… (100 bytes)"


def test_every_command_has_a_line() -> None:
    operations = [Operation.READ, Operation.CAS, Operation.INCREMENT, Operation.NULL, Operation.MULTI]
    multi = [bytes([Operation.WRITE, Operation.DELETE]), [b"a", b"b"], [b"1", None]]
    arguments = [None, [None, b"new"], 5, None, multi]
    encoded = encode_batch(1, 3, 1, bytes(operations), [b"k", b"c", b"n", b"", b""], arguments)
    lines = [line.split(": ", 1)[1] for line in command_lines(make_payload([decode_batch(encoded)]))]
    assert lines == [
        "READ 'k'",
        "CAS 'c' none -> 'new'",
        "INCREMENT 'n' 5",
        "NULL",
        "MULTI (WRITE 'a' '1'; DELETE 'b')",
    ]


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_shows_the_whole(directory: Path, run: Callable[..., Result]) -> None:
    result = run(directory)
    assert result.exit_code == 0, result.output
    lines = [re.sub(r" +", " ", line.strip()) for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"{directory}: replica bravo, row B of 3, cluster ")
    assert "A 1 1 2 3 3 -" in lines
    assert "C - - - - 5 000000000000000c" in lines
    assert "instances 1 preaccepted, 4 committed" in lines
    assert "undecided 6: B.1 C.0 C.1 C.2 C.3 C.4" in lines
    assert "waiting 1: A.3" in lines
    assert "checkpoint 2 keys, 1 more without a value, 1 sessions" in lines
    assert json.loads(run(directory, "--json").stdout)["waiting"]["count"] == 1


def test_the_command_shows_an_instance(directory: Path, run: Callable[..., Result]) -> None:
    result = run(directory, "--instance", "A.3")
    assert result.stdout.splitlines()[0] == "A.3: waiting"
    assert "  depends on B.1 (unknown)" in result.stdout
    assert "  needed by  C.0 (preaccepted, the first of 1 in its row)" in result.stdout
    assert json.loads(run(directory, "--instance", "0.3", "--json").stdout)["instance"] == "A.3"


def test_a_no_op_says_so(tmp_path: Path) -> None:
    engine = open_directory(configuration(tmp_path), "alpha")
    annulled = record(InstanceId(C, 0), COMMITTED)
    annulled.value, annulled.deps = NOP, (-1,) * N
    write_log(engine, N, [annulled])
    engine.close()
    told = describe(read_contents(tmp_path / "alpha"), InstanceId(C, 0))
    assert (told["value"], told["state"]) == ("no-op", "executed")
    assert told["orig"].startswith("1 command, ")


def test_what_is_refused(directory: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, code, text in (
        ([tmp_path / "none"], 1, "there is no data directory"),
        ([directory, "--instance", "D.1"], 2, "--instance: found 'D.1'; allowed: rows A to C, or 0 to 2"),
        ([directory, "--graph", tmp_path / "g", "--around", "x"], 2, "--around: found 'x'; allowed: a row"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert text in result.stderr
