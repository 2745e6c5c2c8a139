from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.config import Config, ReplicaAddress, default_replicas, make_config, model
from epaxos.config.keys import KEYS, OBSERVERS, REPLICAS, SECTIONS, TOP, Key, keys_of
from epaxos.config.kinds import Choice
from epaxos.config.model import ClientConfig, StorageConfig
from epaxos.errors import ConfigError
from epaxos.protocol.membership import Member, joined
from epaxos.storage.engine import ENGINES, SYNCS
from epaxos.version import NEWEST


def config(n: int = 3, **keys: object) -> Config:
    return make_config({**keys, "replicas": default_replicas(n)})


@pytest.mark.parametrize(
    ("n", "f", "e"), [(1, 0, 0), (2, 0, 0), (3, 1, 1), (4, 1, 1), (5, 2, 2), (6, 2, 2), (7, 3, 2)]
)
def test_thresholds_are_as_large_as_possible(n: int, f: int, e: int) -> None:
    assert (config(n).f, config(n).e) == (f, e)
    assert (config(n).slow_quorum, config(n).fast_quorum) == (n - f, n - e)


def test_replicas_are_rows_by_pid() -> None:
    pids = {"alpha": 7, "bravo": 0, "charlie": 3}
    replicas = [{**replica, "pid": pids[str(replica["name"])]} for replica in default_replicas(3)]
    cluster = make_config({"replicas": replicas})
    assert [replica.name for replica in cluster.replicas] == ["bravo", "charlie", "alpha"]
    assert [cluster.row_of(name) for name in pids] == [2, 0, 1]
    assert cluster.replica("charlie").port == 3266


@pytest.mark.parametrize(
    ("name", "advice"),
    [("alfa", 'did you mean "alpha"?'), ("xxx", "allowed: alpha, bravo, charlie")],
)
def test_an_unknown_replica_gets_one_line(name: str, advice: str) -> None:
    cluster = replace(config(), source="a.toml")
    for find in (cluster.row_of, cluster.replica):
        with pytest.raises(ConfigError) as caught:
            find(name)
        assert str(caught.value) == f'a.toml: no replica has the name "{name}"; {advice}'


@pytest.mark.parametrize(
    ("host", "text"),
    [("127.0.0.1", "127.0.0.1"), ("node1.example.org", "node1.example.org"), ("::1", "[::1]")],
)
def test_endpoints_are_those_of_zeromq(host: str, text: str) -> None:
    replica = ReplicaAddress(0, "alpha", host, 1, 2, 3)
    assert (replica.peer_endpoint, replica.client_endpoint) == (f"tcp://{text}:1", f"tcp://{text}:2")


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "10.0.0.1", "eth0.example"])
def test_a_replica_may_listen_on_something_else_than_its_host(listen: str) -> None:
    first, second = default_replicas(2)
    replicas = make_config({REPLICAS: [first | {"listen": listen}, second]}).replicas
    assert [replica.listens_on for replica in replicas] == [listen, "127.0.0.1"]
    assert [replica.host for replica in replicas] == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize("listen", ["*", "", "a b", "0.0.0", "[::]"])
def test_what_nobody_can_listen_on_is_refused(listen: str) -> None:
    (replica,) = default_replicas(1)
    with pytest.raises(
        ConfigError, match=r"replica 1 \(alpha\), listen: found .*; allowed: host name or IP address of"
    ):
        make_config({REPLICAS: [replica | {"listen": listen}]})


def test_a_configuration_is_frozen_and_hashable() -> None:
    cluster = config()
    with pytest.raises(FrozenInstanceError):
        cluster.thrifty = True  # type: ignore[misc]  # that it cannot be set is what is shown
    assert hash(cluster) == hash(config())
    assert cluster == config()


@pytest.mark.parametrize(
    "changes",
    [{"name": "other"}, {"max_key": 65535}, {"max_value": 1}, {"max_frame": 2**29}],
)
def test_what_all_must_have_in_common_changes_the_fingerprint(changes: dict[str, object]) -> None:
    assert config(**changes).fingerprint != config().fingerprint  # type: ignore[arg-type]  # n is an int


def test_how_followers_learn_is_in_common_whatever_the_first_protocol_is() -> None:
    led = [config(protocol="multipaxos", learn=learn) for learn in ("votes", "commits")]
    assert len({cluster.fingerprint for cluster in led}) == 2
    assert [config(learn=cluster.learn).fingerprint for cluster in led] == [it.fingerprint for it in led]


def test_members_and_quorums_are_of_the_configuration_of_an_epoch_and_not_of_the_fingerprint() -> None:
    names = make_config(
        {"replicas": [{**replica, "name": f"x{replica['name']}"} for replica in default_replicas(3)]}
    )
    others = [names, config(f=0, e=0), config(e=0), config(n=4), config(n=5)]
    assert {other.fingerprint for other in others} == {config().fingerprint}
    others.append(config(protocol="multipaxos"))
    assert len({other.initial.digest for other in (config(), *others)}) == len(others) + 1
    assert config().initial == (0, "epaxos", ("alpha", "bravo", "charlie"), 1, 1, 0, NEWEST, (), ())


def test_what_may_differ_does_not_change_the_fingerprint() -> None:
    moved = make_config({"replicas": default_replicas(3, ["10.0.0.1"])[::-1], "thrifty": True, "mailbox": 1})
    assert moved.fingerprint == config().fingerprint
    assert replace(config(), retry=9.0, max_pause=2.0).fingerprint == config().fingerprint


def test_storage_is_the_matter_of_each_replica() -> None:
    table = {
        "engine": "memory",
        "directory": "/data",
        "sync": "never",
        "sync_interval": "1ms",
        "checkpoint": "1m",
        "checkpoint_instances": 1,
        "retain": 0,
        "quota": 1,
        "reserve": 0,
    }
    assert table.keys() == {key.name for key in keys_of("storage")}
    assert config(storage=table).fingerprint == config().fingerprint


def test_each_replica_has_a_directory_of_its_own() -> None:
    assert config().storage.directory_of("alpha") == Path("epaxos-data/alpha")
    assert config(storage={"directory": "/data"}).storage.directory_of("bravo") == Path("/data/bravo")


def test_the_storage_engines_and_their_ways_to_sync_are_those_there_are() -> None:
    kinds = {key.name: key.kind for key in keys_of("storage")}
    assert kinds["engine"] == Choice(ENGINES)
    assert kinds["sync"] == Choice(SYNCS)


def test_data_outlive_other_sizes_but_no_other_name() -> None:
    assert config(max_key=9, max_value=9, max_frame=2**29).identity == config().identity
    assert config(name="other").identity != config().identity


def test_the_fingerprint_stays_what_it_is() -> None:
    # another one would split a cluster whose replicas are upgraded one by one
    assert config().fingerprint == 17780652994864855186


def test_a_hash_of_0_is_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zero:
        def digest(self) -> bytes:
            return bytes(8)

    monkeypatch.setattr(model, "blake2b", lambda *_, **__: Zero())
    assert config().fingerprint == 1


@given(st.text(alphabet="abc-_.", min_size=1, max_size=5).filter(lambda name: name[0].isalpha()))
def test_the_fingerprint_has_64_bits_and_is_never_0(name: str) -> None:
    assert 0 < config(name=name).fingerprint < 2**64


def test_every_declared_key_is_an_attribute_and_the_other_way_round() -> None:
    def names(model: type) -> set[str]:
        return {field.name for field in fields(model)}

    assert names(Config) == {key.name for key in keys_of(TOP)} | {
        *SECTIONS,
        REPLICAS,
        OBSERVERS,
        "source",
        "fingerprint",
    }
    for table, owner in {"client": ClientConfig, "storage": StorageConfig, REPLICAS: ReplicaAddress}.items():
        assert names(owner) == {key.name for key in keys_of(table)}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_every_key_says_what_it_is_for_and_its_default_is_allowed(key: Key) -> None:
    assert key.purpose.endswith(".")
    assert (key.default is None) == bool(key.default_text)
    if key.default is not None:
        key.kind.read(key.default)


def test_where_members_are_was_decided_and_of_first_ones_the_file_tells() -> None:
    its = config()
    alpha, bravo, charlie = its.replicas
    assert its.members_of(its.initial) == {"alpha": alpha, "bravo": bravo, "charlie": charlie}
    delta, other = joined("delta", 9), joined("bravo", 7)
    told = {
        "charlie": Member(3, *charlie.place),
        delta: Member(9, "d", 1, 2, 3),
        other: Member(7, *bravo.place),
    }
    running = its.initial.next(7, names=("alpha", "charlie", delta, other), members=told)
    assert its.members_of(running) == {
        "alpha": alpha,
        "charlie": charlie,
        delta: ReplicaAddress(0, "delta", "d", 1, 2, 3),
        other: bravo,
    }
    assert its.differs_from(its.initial) == ""
    assert its.differs_from(running) == "delta is one at d:1"
    gone = running._replace(names=running.names[1:3], members=running.members[1:3])
    assert its.differs_from(gone) == "delta is one at d:1, alpha is none, bravo is none"
    moved = running._replace(members=(Member(1, "elsewhere", 1, 2, 3), *running.members[1:]))
    assert its.differs_from(moved) == "alpha is one at elsewhere:1, delta is one at d:1"
    unknown = running._replace(names=("golf", joined("bravo", 8)), members=())
    assert its.members_of(unknown) == {"golf": None, joined("bravo", 8): None}


def test_the_members_of_now_take_the_place_of_those_of_the_file() -> None:
    its = config()
    alpha, *_ = its.replicas
    assert its.as_of({}) is its.as_of({"epoch": 0, "addresses": {}}) is its
    addresses = {"alpha": list(alpha.place), joined("delta", 9): ["d", 1, 2, 3]}
    now = its.as_of({"epoch": 4, "addresses": addresses, "f": 0, "e": 0})
    assert (now.replicas, now.f, now.e) == ((alpha, ReplicaAddress(0, "delta", "d", 1, 2, 3)), 0, 0)
    assert now.fingerprint == its.fingerprint
