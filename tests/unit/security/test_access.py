from __future__ import annotations

import threading
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zmq

from epaxos.config import Config
from epaxos.config.loading import read_text
from epaxos.errors import ConfigError
from epaxos.security.access import Access, list_text, read_clients
from epaxos.security.curve import arm, make_key
from epaxos.security.keys import KeyPair, client_login, is_key, read_key, write_secret
from epaxos.security.making import Listing, add_client, add_replica, init_keys, listed, remove
from epaxos.security.rights import Role


def public(config: Config, name: str) -> str:
    return read_key(str(Path(config.security.keys) / f"{name}.key")).public


def test_replicas_and_clients_are_known_by_their_keys(secure: Config) -> None:
    keys = Path(secure.security.keys)
    add_client(keys, "web", Listing("write", ["web/", "ü"]))
    access = Access.of(secure, "alpha")
    assert access.replica(public(secure, "bravo")) == "bravo"
    assert access.replica(public(secure, "web")) == access.replica("") == ""
    rights = access.rights(public(secure, "web"))
    assert rights is not None
    assert (rights.name, rights.role, rights.prefixes) == ("web", Role.WRITE, (b"web/", "ü".encode()))
    replica = access.rights(public(secure, "bravo"))
    assert replica is not None
    assert replica.role == Role.ADMIN
    assert access.rights("0" * 40) is None
    assert access.own == read_key(str(keys / "alpha.key"))


def test_who_is_removed_has_no_rights_once_the_lists_are_read(secure: Config) -> None:
    keys = Path(secure.security.keys)
    add_client(keys, "web", Listing("write"))
    key = public(secure, "web")
    access = Access.of(secure, "alpha")
    remove(keys, "web")
    assert access.rights(key)
    access.reload()
    assert access.rights(key) is None
    assert not (keys / "web.key").exists()


def test_a_stolen_key_of_a_replica_is_out_once_the_lists_are_read(secure: Config) -> None:
    access, stolen = Access.of(secure, "bravo"), public(secure, "alpha")
    assert access.server_key("alpha") == stolen
    remove(Path(secure.security.keys), "alpha")
    access.reload()
    assert access.replica(stolen) == access.server_key("alpha") == ""
    assert access.rights(stolen) is None
    with pytest.raises(ConfigError, match="alpha: missing"):
        Access.of(secure, "bravo")
    remove(Path(secure.security.keys), "bravo")
    with pytest.raises(ConfigError, match="bravo: missing"):
        access.reload()


def test_nothing_logs_in_where_no_key_is_known() -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        arm(socket, make_key(), "")
        assert socket.get(zmq.MECHANISM) == zmq.CURVE


def test_a_list_that_changes_while_it_is_read_is_read_once(
    secure: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Path(secure.security.keys)
    add_replica(keys, "delta")
    access = Access.of(secure, "alpha")

    def read_and_remove(path: str) -> str:
        text = read_text(path)
        if path.endswith("replicas.toml") and "[delta]" in text:
            remove(keys, "delta")
        return text

    monkeypatch.setattr("epaxos.security.keys.read_text", read_and_remove)
    access.reload()
    assert access.server_key("delta")
    access.reload()
    assert not access.server_key("delta")


def test_wrong_lists_leave_those_of_before(secure: Config) -> None:
    access = Access.of(secure, "alpha")
    (Path(secure.security.keys) / "clients.toml").write_text("nonsense")
    with pytest.raises(ConfigError, match="line 1"):
        access.reload()
    assert access.rights(public(secure, "admin"))


def test_rights_end(secure: Config) -> None:
    keys = Path(secure.security.keys)
    now = datetime.now(UTC).timestamp()
    add_client(keys, "web", Listing("read"), lasts=60)
    add_replica(keys, "delta", lasts=60)
    token = add_client(keys, "page", Listing("read"), token=True, lasts=60)
    for later, fine in ((30, True), (61, False)):
        access = Access.of(secure, "alpha", lambda later=later: now + later)  # type: ignore[misc]
        assert bool(access.rights(public(secure, "web"))) is fine
        assert bool(access.replica(public(secure, "delta"))) is fine
        assert bool(access.by_token(token)) is fine
        assert bool(access.client("web")) is fine


def test_a_token_is_on_the_list_as_a_hash_only(secure: Config) -> None:
    keys = Path(secure.security.keys)
    token = add_client(keys, "page", Listing("read"), token=True)
    assert len(token) > 40
    assert token not in (keys / "clients.toml").read_text()
    access = Access.of(secure, "alpha")
    rights = access.by_token(token)
    assert rights is not None
    assert rights.name == "page"
    assert access.by_token(token[:-1]) is access.by_token("") is None


def test_a_secret_is_its_owners_alone(secure: Config) -> None:
    path = Path(secure.security.keys) / "admin.key"
    assert path.stat().st_mode & 0o777 == 0o600
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(
            ConfigError, match=f"found mode 0{mode:o}, with which others can read or change it"
        ):
            read_key(str(path))
    with pytest.raises(ConfigError, match="exists; a key is never written over"):
        write_secret(path, "")


@pytest.mark.parametrize(
    ("name", "mode", "fine"),
    [
        ("clients.toml", 0o602, False),
        ("replicas.toml", 0o664, False),
        ("replicas.toml", 0o1646, False),
        ("", 0o777, False),
        ("", 0o720, False),
        ("", 0o1777, True),
        ("replicas.toml", 0o644, True),
    ],
)
def test_what_others_can_write_is_no_list(secure: Config, name: str, mode: int, *, fine: bool) -> None:
    access, place = Access.of(secure, "alpha"), Path(secure.security.keys) / name
    place.chmod(mode)
    if fine:
        access.reload()
        return
    with pytest.raises(ConfigError, match=f"{place}: found mode {mode:04o}, with which others could let"):
        access.reload()
    if name != "clients.toml":
        with pytest.raises(ConfigError, match="found mode"):
            client_login(secure, None)


def test_changes_of_the_lists_wait_for_one_another(secure: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Path(secure.security.keys)
    add_client(keys, "leaver", Listing("write"))
    removing = threading.Thread(target=remove, args=(keys, "leaver"))

    def begin_to_remove() -> KeyPair:
        removing.start()
        removing.join(0.05)
        return make_key()

    monkeypatch.setattr("epaxos.security.making.make_key", begin_to_remove)
    add_client(keys, "web", Listing("write"))
    removing.join()
    assert read_clients(str(keys)).keys() == {"admin", "web"}


def test_keys_are_told_from_other_texts() -> None:
    assert is_key("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
    for text in (None, 7, "", "0" * 39, "0" * 41, "~" * 40, "#" * 40, '"' * 40, "ü" * 40):
        assert not is_key(text)


def test_init_makes_what_is_missing(secure: Config) -> None:
    keys = Path(secure.security.keys)
    before = {path.name: path.read_text() for path in keys.iterdir()}
    assert init_keys(secure, keys) == []
    assert {path.name: path.read_text() for path in keys.iterdir()} == before
    remove(keys, "bravo")
    assert init_keys(secure, keys) == ["bravo"]


def test_a_name_is_on_the_lists_once(secure: Config) -> None:
    keys = Path(secure.security.keys)
    for name in ("admin", "alpha"):
        with pytest.raises(ConfigError, match=f"{name} is on the list"):
            add_client(keys, name, Listing("read"))
    with pytest.raises(ConfigError, match="name: found"):
        add_client(keys, "../x", Listing("read"))
    with pytest.raises(ConfigError, match="nobody on the lists is called"):
        remove(keys, "nobody")
    assert [row["name"] for row in listed(keys)] == ["alpha", "bravo", "charlie", "admin"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]", r'a\.role: found none; allowed: "read", "write", "admin"'),
        ('[a]\nrole = "root"', 'a.role: found "root"'),
        ('[a]\nrole = "read"\nprefixes = "a"', "a.prefixes: found something else"),
        ('[a]\nrole = "read"\nprefixes = [""]', "a.prefixes: found something else"),
        ('[a]\nrole = "read"\nprefixes = []', "a.prefixes: found none"),
        ('[a]\nrole = "read"\nkeys = ["x"]', "a.keys: found something else"),
        (
            '[a]\nrole = "read"\nuntil = 2030-01-01',
            "a.until: found a date or time; allowed: a time with its zone",
        ),
        ('[a]\nrole = "read"\nprefix = ["a"]', 'a: found "prefix"; allowed: keys, password, prefixes, role'),
        ('["a b"]\nrole = "read"', "the name of a client"),
        ("a = 1", "a: found 1; allowed: a table"),
        ("[a]\nrole = 1", "a.role: found 1"),
    ],
)
def test_mistakes_in_the_list_of_clients(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "clients.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem) as error:
        read_clients(str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}/clients.toml: ")


def test_a_key_is_one_persons(secure: Config) -> None:
    keys = Path(secure.security.keys)
    clients = (keys / "clients.toml").read_text()
    entry = f'[web]\nrole = "read"\nkeys = ["{public(secure, "bravo")}"]\n'
    (keys / "clients.toml").write_text(clients + entry)
    with pytest.raises(ConfigError, match="client web and replica bravo have the same key"):
        Access.of(secure, "alpha")


def test_a_replica_runs_with_the_key_that_the_list_has(secure: Config) -> None:
    keys = Path(secure.security.keys)
    (keys / "bravo.key").replace(keys / "alpha.key")
    with pytest.raises(
        ConfigError, match=r"alpha\.keys: the first is not that of .*alpha\.key, with which it runs"
    ):
        Access.of(secure, "alpha")


def test_a_client_needs_the_keys_of_all_replicas(secure: Config) -> None:
    login = client_login(secure, None)
    assert login is not None
    assert login.servers == [public(secure, name) for name in ("alpha", "bravo", "charlie")]
    assert login.key.secret not in repr(login)
    remove(Path(secure.security.keys), "bravo")
    with pytest.raises(ConfigError, match="bravo: missing"):
        client_login(secure, None)


def test_whatever_is_written_is_read_again() -> None:
    entries = {
        "a.b": {"role": "read", "prefixes": ['"\\\n\0é', "x"], "until": datetime(2030, 1, 1, tzinfo=UTC)}
    }
    assert tomllib.loads(list_text("Head", entries)) == entries
