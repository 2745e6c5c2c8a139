"""What `epaxos doctor` makes of a world that it is given; on a real cluster: tests/integration/test_doctor.py."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from epaxos.cli import examination
from epaxos.cli.examination import Finding, Named, Page, State
from epaxos.cli.survey import Survey
from epaxos.config import Config, load_config
from epaxos.version import __version__


@pytest.fixture
def config() -> Config:
    return load_config(None, environ={})


def bad(findings: Iterable[Finding]) -> list[tuple[str, State]]:
    """What is not well; each says what to do."""
    found = [one for one in findings if one.state in {State.WARNING, State.FAILED}]
    assert all(one.advice for one in found)
    return [(one.found, one.state) for one in found]


def hosts(config: Config, *names: str) -> Config:
    replicas = [replace(one, host=host) for one, host in zip(config.replicas, names, strict=True)]
    return replace(config, replicas=tuple(replicas))


def test_a_name_of_loopback_among_others_is_the_line_in_etc_hosts(config: Config) -> None:
    spread = hosts(config, "a", "b", "c")
    names = {
        "a": Named(["127.0.1.1"], "", 0),
        "b": Named(["10.0.0.2"], "", 0),
        "c": Named(["10.0.0.3"], "", 0),
    }
    assert bad(examination.examine_names(spread, names, [])) == [("means 127.0.1.1 here", State.FAILED)]
    alone = dict.fromkeys(names, Named(["127.0.0.1"], "", 0.0))
    assert bad(examination.examine_names(spread, alone, [])) == []


def test_a_slow_name_is_warned_of(config: Config) -> None:
    names = {"127.0.0.1": Named(["127.0.0.1"], "", 2.0)}
    assert bad(examination.examine_names(config, names, []))[0] == ("takes 2.0 s to resolve", State.WARNING)


def test_a_name_to_listen_on_that_does_not_resolve(config: Config) -> None:
    here = replace(config.replicas[0], listen="lo")
    names = {"127.0.0.1": Named(["127.0.0.1"], "", 0), "lo": Named([], "no", 0)}
    assert bad(examination.examine_names(config, names, [here])) == [("no", State.FAILED)]


def test_a_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "PATIENCE", 0.01)
    monkeypatch.setattr(examination, "resolve", lambda _: time.sleep(1))
    assert "does not answer" in examination.look_up(["a"])["a"].error


def test_addresses_of_this_machine_are_told_from_others() -> None:
    assert examination.is_here("127.0.0.1")
    assert not examination.is_here("192.0.2.1")  # RFC 5737: nobody's


def test_one_whose_pages_ask_for_a_token_tells_the_time_all_the_same(config: Config) -> None:
    class Asks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Asks) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        alone = replace(config, replicas=(replace(config.replicas[0], metrics_port=server.server_port),))
        pages = examination.fetch_pages(alone, {"127.0.0.1": Named(["127.0.0.1"], "", 0.0)})
        thread.join()
    assert pages["alpha"].text == ""
    assert [one.state for one in examination.examine_clocks(pages)] == [State.OK]


def test_clocks() -> None:
    pages = {"alpha": Page("", 0.5), "bravo": Page("", -90.0), "charlie": Page("", None)}
    assert bad(examination.examine_clocks(pages)) == [("90 s behind the clock here", State.WARNING)]
    assert [one.state for one in examination.examine_clocks({})] == [State.SKIPPED]


def test_versions() -> None:
    def judged(version: str, level: int) -> list[tuple[str, State]]:
        bravo = {"name": "bravo", "version": version, "level": 10, "newest_level": level}
        replicas = [
            {"reachable": True} | it for it in (bravo | {"name": "alpha", "version": __version__}, bravo)
        ]
        return bad(examination.examine_versions(Survey("it", 2, replicas)))

    assert judged(__version__, 10) == []
    assert judged("0.0", 10) == [(f"0.0: bravo; {__version__}: this command, alpha", State.WARNING)]
    assert judged(__version__, 11) == [("level 10; all know a newer one", State.WARNING)]


def test_descriptors() -> None:
    page = Page("process_open_fds 900.0\nprocess_max_fds 1000.0\n", None)
    assert bad(examination.examine_descriptors(256, {"alpha": page})) == [
        ("at most 256 for a process", State.WARNING),
        ("900 of 1000 in use", State.FAILED),
    ]
    assert bad(examination.examine_descriptors(100_000, {"alpha": Page("", None)})) == []


def replica(**changes: Any) -> dict[str, Any]:
    peers = {"bravo": {"online": True}, "charlie": {"online": True}}
    return {
        "name": "alpha",
        "reachable": True,
        "storage_failed": None,
        "peers": peers,
        "reasons": [],
    } | changes


@pytest.mark.parametrize(
    ("replicas", "state"),
    [
        ([replica(), replica(), replica()], State.OK),
        ([replica(), replica(), replica(reachable=False)], State.WARNING),
        ([replica(), replica(reachable=False), replica(reachable=False)], State.FAILED),
        ([replica(reachable=False)] * 3, State.FAILED),
        (
            [replica(storage_failed="x"), replica(storage_failed="x"), replica(storage_failed="x")],
            State.FAILED,
        ),
    ],
)
def test_quorum(replicas: list[dict[str, Any]], state: State) -> None:
    assert next(iter(examination.examine_quorum(Survey("c", 2, replicas)))).state == state


def test_the_reasons_of_replicas_that_answer_are_told() -> None:
    stuck = [replica(reasons=["draining: it stops"]), replica(), replica()]
    assert bad(examination.examine_quorum(Survey("c", 2, stuck))) == [
        ("alpha: draining: it stops", State.FAILED)
    ]


def test_a_replica_whose_disk_is_nearly_full_is_told() -> None:
    full = [replica(storage_full=True), replica(), replica()]
    ((_, state),) = bad(examination.examine_quorum(Survey("c", 2, full)))
    assert state == State.FAILED


def disk(config: Config, directory: Path, **changes: Any) -> list[Finding]:
    changed = replace(config, storage=replace(config.storage, directory=str(directory), **changes))
    return list(examination.examine_disk(changed, config.replicas[0]))


def test_a_disk_that_is_slow(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "SYNCS", 2)
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.02))
    assert [one.state for one in disk(config, tmp_path) if one.check == "sync"] == [State.WARNING]
    assert [one.state for one in disk(config, tmp_path, sync="never") if one.check == "sync"] == [State.OK]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    found = bad(one for one in disk(config, tmp_path) if one.check == "sync")
    assert found == [("cannot be written: Read-only file system", State.FAILED)]


def test_a_disk_without_room(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "LEAST_ROOM", 1 << 60)
    monkeypatch.setattr(examination, "SYNCS", 1)
    assert State.WARNING in [one.state for one in disk(config, tmp_path) if "free" in one.found]


def test_what_is_kept_in_memory_is_warned_of(config: Config, tmp_path: Path) -> None:
    assert bad(disk(config, tmp_path, engine="memory")) == [("promises end with the process", State.WARNING)]


def test_file_systems_are_known_by_the_longest_place(tmp_path: Path) -> None:
    mounts = f"/dev/a / ext4 rw 0 0\nx {tmp_path} nfs4 rw 0 0\ny /elsewhere tmpfs rw 0 0\n"
    assert examination.filesystem_of(tmp_path / "data", mounts) == "nfs4"
    assert examination.filesystem_of(Path("/"), mounts) == "ext4"
