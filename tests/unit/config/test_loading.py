"""Where a configuration is looked for, and what overrides what."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from epaxos.config import ClientConfig, StorageConfig, load_config
from epaxos.config.loading import find_file
from epaxos.errors import ConfigError

FILE = "epaxos.toml"


def test_without_a_file_there_are_three_local_replicas() -> None:
    config = load_config(None, {"HOME": "/nonexistent"})
    assert config.source == "defaults"
    assert [replica.name for replica in config.replicas] == ["alpha", "bravo", "charlie"]
    assert [replica.peer_endpoint for replica in config.replicas] == [
        f"tcp://127.0.0.1:{port}" for port in (3264, 3265, 3266)
    ]
    assert [replica.client_port for replica in config.replicas] == [4264, 4265, 4266]
    assert [replica.metrics_port for replica in config.replicas] == [9264, 9265, 9266]
    assert (config.n, config.f, config.e, config.slow_quorum, config.fast_quorum) == (3, 1, 1, 2, 2)


def test_the_defaults_are_those_agreed_on() -> None:
    config = load_config(None, {})
    assert (config.name, config.thrifty, config.aggregate, config.log_level) == ("local", False, True, "info")
    assert (config.max_batch, config.mailbox) == (1000, 10_000)
    assert (config.max_pending, config.max_instances) == (100_000, 64)
    assert (config.timeout, config.beacon, config.fast_path_timeout) == (1.0, 0.1, 0.05)
    assert (config.retry, config.commit_delay, config.uptime, config.max_pause) == (0.2, 0.005, 0.0, 0.1)
    assert (config.max_key, config.max_value, config.max_frame) == (65_536, 1_048_576, 33_554_432)
    assert config.client == ClientConfig(timeout=2.0, tries=3)
    assert config.storage == StorageConfig(
        engine="sqlite",
        directory=str(Path.cwd() / "epaxos-data"),
        sync="always",
        sync_interval=0.1,
        checkpoint=5.0,
        checkpoint_instances=20_000,
        retain=16 * 2**20,
        quota=0,
        reserve=64 * 2**20,
    )


@pytest.mark.parametrize("text", ["", "thrifty = true\n"])
def test_what_a_file_leaves_out_has_its_default(text: str) -> None:
    Path(FILE).write_text(text)
    config = load_config(FILE, {})
    assert (config.n, config.thrifty, config.source) == (3, bool(text), FILE)


def test_the_environment_overrides_the_file_and_the_file_the_defaults(tables: str) -> None:
    Path(FILE).write_text(f'thrifty = true\nmax_batch = 5\n[client]\ntimeout = "9s"\n{tables}')
    environ = {"EPAXOS_MAX_BATCH": "6", "EPAXOS_CLIENT_TIMEOUT": "1s", "EPAXOS_E": "0", "OTHER": "x"}
    environ |= {"EPAXOS_CONFIG": "other.toml", "EPAXOS_REPLICA": "alpha"}
    environ |= {"EPAXOS_STORAGE_ENGINE": "memory", "EPAXOS_NAME": "blue", "EPAXOS_AGGREGATE": "false"}
    environ |= {"EPAXOS_PEER_ADDRESSES": "alpha=10.0.0.7:3264, delta=[fe80::1%eth0]:1,"}
    config = load_config(FILE, environ)
    assert config.peer_addresses == (("alpha", ("10.0.0.7", 3264)), ("delta", ("fe80::1%eth0", 1)))
    assert (config.thrifty, config.max_batch, config.client.timeout) == (True, 6, 1.0)
    assert (config.e, config.name, config.aggregate, config.client.tries) == (0, "blue", False, 3)


def test_places_are_searched_in_order(tmp_path: Path) -> None:
    home = tmp_path / "another home"  # than that of the process
    home.mkdir()
    environ = {"HOME": str(home)}
    in_home, here, named = home / ".epaxos.toml", Path(FILE), tmp_path / "named.toml"
    for path, name in ((in_home, "at-home"), (here, "here"), (named, "named")):
        path.write_text(f'name = "{name}"\n')
        environ |= {"EPAXOS_CONFIG": str(named)} if name == "named" else {}
        assert load_config(None, environ).name == name
    assert load_config(str(in_home), environ).name == "at-home"
    assert load_config(None, environ | {"EPAXOS_CONFIG": ""}).name == "here"


def test_the_last_place_is_etc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda place: place == "/etc/epaxos.toml")
    assert find_file({}) == "/etc/epaxos.toml"


def test_a_file_that_exists_but_cannot_be_read_is_not_passed_over() -> None:
    Path(FILE).symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"epaxos\.toml: cannot be read: No such file"):
        load_config(None, {})


def test_a_file_named_by_the_environment_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        load_config(None, {"EPAXOS_CONFIG": "gone.toml"})


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPAXOS_THRIFTY", "true")
    assert load_config().thrifty is True


def test_a_relative_directory_begins_where_the_file_is_or_the_variable_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    for made in (folder, elsewhere):
        made.mkdir()
    (folder / FILE).write_text('[storage]\ndirectory = "some/where"\n')
    (folder / "bare.toml").touch()
    (elsewhere / "link.toml").symlink_to(folder / FILE)
    monkeypatch.chdir(elsewhere)
    for file, environ, expected in (
        (f"../folder/{FILE}", {}, elsewhere / "../folder/some/where"),
        (str(folder / FILE), {}, folder / "some/where"),
        (str(folder / "bare.toml"), {}, folder / "epaxos-data"),
        ("link.toml", {}, elsewhere / "some/where"),
        (str(folder / FILE), {"EPAXOS_STORAGE_DIRECTORY": "typed"}, elsewhere / "typed"),
        (str(folder / FILE), {"EPAXOS_STORAGE_DIRECTORY": "/typed"}, Path("/typed")),
        (None, {}, elsewhere / "epaxos-data"),
    ):
        assert load_config(file, environ).storage.directory_of("alpha") == expected / "alpha"
    elsewhere.rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved")
    assert load_config(str(folder / FILE), {}).n == 3
    assert load_config(None, {}).n == 3, "a client needs no directory"


def test_a_mark_at_its_beginning_that_some_editors_write() -> None:
    Path(FILE).write_bytes(b'\xef\xbb\xbfname = "marked"\n')
    assert load_config(None, {}).name == "marked"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_another_encoding_is_named(encoding: str) -> None:
    Path(FILE).write_bytes('\ufeffname = "wide"\n'.encode(encoding))
    with pytest.raises(
        ConfigError, match=r"^epaxos.toml: line 1: not TOML: the file is in UTF-16; save it in UTF-8$"
    ):
        load_config(None, {})


@pytest.mark.parametrize("text", ["2", "2.0", '"2"', '"2.000"', '"2s"'])
def test_a_number_alone_is_seconds(text: str) -> None:
    Path(FILE).write_text(f"timeout = {text}\n")
    assert load_config(None, {"EPAXOS_RETRY": "0.5"}).timeout == 2.0
    assert load_config(None, {"EPAXOS_RETRY": "0.5"}).retry == 0.5
