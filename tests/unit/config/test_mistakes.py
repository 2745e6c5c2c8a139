"""Each kind of mistake in a file or in the environment, and the line it gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import toml

from epaxos.config import load_config
from epaxos.errors import ConfigError

Problems = Callable[..., list[str]]

FILE = "epaxos.toml"
ALPHA = """
[[replicas]]
pid = 0
name = "alpha"
host = "127.0.0.1"
port = 3264
client_port = 4264
metrics_port = 9264
"""
NAME = "1 to 63 letters, digits, _ . or -, the first a letter or digit"
HOST = "host name or IP address that others can connect to; not a wildcard such as 0.0.0.0"
DIRECTORY = "path of 1 to 1024 characters, none of them NUL, the first not ~"
PORT = "integer from 1 to 65535"
ADDRESSES = 'NAME=HOST:PORT, several parted by commas, each name once, an IPv6 address in brackets; or ""'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("thrifty = 1", "thrifty: found 1; allowed: true or false"),
        ('aggregate = "true"', 'aggregate: found "true"; allowed: true or false'),
        ("max_batch = 0", "max_batch: found 0; allowed: integer from 1 to 1000000"),
        ("max_batch = 1000001", "max_batch: found 1000001; allowed: integer from 1 to 1000000"),
        ("max_batch = 1.0", "max_batch: found 1.0; allowed: integer from 1 to 1000000"),
        ("max_batch = true", "max_batch: found true; allowed: integer from 1 to 1000000"),
        ('max_batch = "7"', 'max_batch: found "7"; allowed: integer from 1 to 1000000'),
        ("max_batch = [1]", "max_batch: found an array; allowed: integer from 1 to 1000000"),
        ("max_batch = {a = 1}", "max_batch: found a table; allowed: integer from 1 to 1000000"),
        ("max_batch = 1979-05-27", "max_batch: found a date or time; allowed: integer from 1 to 1000000"),
        (
            f"max_batch = 0x{'f' * 5000}",
            "max_batch: found an integer of 20000 bits; allowed: integer from 1 to 1000000",
        ),
        ("max_key = 0", "max_key: found 0; allowed: integer from 1 to 16777216 (bytes)"),
        ("retry = 61", 'retry: found 61; allowed: duration from "1ms" to "1m"'),
        ("retry = -1", 'retry: found -1; allowed: duration from "1ms" to "1m"'),
        ("retry = true", 'retry: found true; allowed: duration from "1ms" to "1m"'),
        ("retry = nan", 'retry: found nan; allowed: duration from "1ms" to "1m"'),
        ('retry = "0"', 'retry: found "0"; allowed: duration from "1ms" to "1m"'),
        ('retry = "999us"', 'retry: found "999us"; allowed: duration from "1ms" to "1m"'),
        ('retry = "61s"', 'retry: found "61s"; allowed: duration from "1ms" to "1m"'),
        ('name = "a b"', f'name: found "a b"; allowed: {NAME}'),
        ('name = "a\\nb\\u001b"', f'name: found "a\\nb\\x1b"; allowed: {NAME}'),
        (f'name = "{"x" * 99}"', f'name: found "{"x" * 60}...{"x" * 17}"; allowed: {NAME}'),
        ("name = 1", f"name: found 1; allowed: {NAME}"),
        *(
            (f'peer_addresses = "{text}"', f'peer_addresses: found "{text}"; allowed: {ADDRESSES}')
            for text in (
                "alpha",
                "alpha=10.0.0.7",
                "alpha=10.0.0.7:0",
                "alpha=:3264",
                "alpha=::1:3264",
                "alpha=[10.0.0.7]:3264",
                "a=h:1,a=h:2",
                "a#1=h:1",
                "alpha=0.0.0.0:1",
                "alpha=h:+1",
            )
        ),
        ("f = -1", "f: found -1; allowed: integer with n >= 2f + 1"),
        ('log_level = "loud"', 'log_level: found "loud"; allowed: "debug", "info", "warning" or "error"'),
        ('timout = "1s"', 'timout: unknown key; did you mean "timeout"?'),
        ('Timeout = "1s"', 'Timeout: unknown key; did you mean "timeout"?'),
        ('"time out" = "1s"', '"time out": unknown key; did you mean "timeout"?'),
        ("[clients]", 'clients: unknown key; did you mean "client"?'),
        ("client = 5", "client: found 5; allowed: a table, [client]"),
        ("[[storage]]", "storage: found an array; allowed: a table, [storage]"),
        ("[client]\ntries = 0", "client.tries: found 0; allowed: integer from 1 to 100"),
        ('[client]\ntimeout = "0s"', 'client.timeout: found "0s"; allowed: duration from "1ms" to "1h"'),
        ("[client]\nretries = 3", 'client.retries: unknown key; did you mean "tries"?'),
        ("[client]\nzzz = 3", "client.zzz: unknown key; allowed: timeout, tries"),
        (
            "[client]\nthrifty = true",
            'client.thrifty: unknown key; "thrifty" belongs to the top of the file, before the first table',
        ),
        ("[storage]\nsync = true", 'storage.sync: found true; allowed: "always", "interval" or "never"'),
        (
            "[storage]\nretain = -1",
            "storage.retain: found -1; allowed: integer from 0 to 1099511627776 (bytes)",
        ),
        ('[storage]\nengine = "tape"', 'storage.engine: found "tape"; allowed: "sqlite" or "memory"'),
    ],
)
def test_a_wrong_key_gets_one_line(line: str, problem: str, tables: str, problems: Problems) -> None:
    assert problems(f"{line}\n{tables}") == [f"{FILE}: {problem}"]


@pytest.mark.parametrize("path", ["", "~", "~/data", "a\\u0000b", "x" * 1025])
def test_a_wrong_directory_gets_one_line(path: str, tables: str, problems: Problems) -> None:
    (problem,) = problems(f'[storage]\ndirectory = "{path}"\n{tables}')
    assert problem.startswith(f'{FILE}: storage.directory: found "')
    assert problem.endswith(f"; allowed: {DIRECTORY}")


@pytest.mark.parametrize("path", [".", "/var/lib/epaxos", "a ~ b", "./~", "Überall", "x" * 1024])
def test_a_directory_may_be_called_almost_anything(path: str, tables: str) -> None:
    Path(FILE).write_text(f'[storage]\ndirectory = "{path}"\n{tables}')
    assert load_config(FILE, {}).storage.directory == str(Path.cwd() / path)


def test_a_key_like_no_other_gets_the_list_of_all(tables: str, problems: Problems) -> None:
    (problem,) = problems(f"xyzzy = 1\n{tables}")
    assert problem.startswith(
        f"{FILE}: xyzzy: unknown key; allowed: name, protocol, machine, learn, thrifty, "
    )
    assert problem.endswith(
        ", slow, watch_history, watch_always, client, storage, http, security, replicas, observers"
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('beacon = "1s"', 'beacon: found "1s"; allowed: less than timeout, which is "1s" (the default)'),
        (
            'timeout = "50ms"',
            'timeout: found "50ms"; allowed: more than beacon, which is "100ms" (the default)',
        ),
        (
            'fast_path_timeout = "201ms"',
            'fast_path_timeout: found "201ms"; allowed: at most retry, which is "200ms" (the default)',
        ),
        ("max_pending = 9", "max_pending: found 9; allowed: at least max_batch, which is 1000 (the default)"),
        (
            "max_batch = 11\nmax_pending = 10",
            "max_batch: found 11; allowed: at most max_pending, which is 10",
        ),
        (
            "max_frame = 2166783",
            (
                "max_frame: found 2166783; allowed: at least 2166784, which is max_key 65536 (the default)"
                " + 2 * max_value 1048576 (the default) + 4096"
            ),
        ),
        ('protocol = "raft"', 'protocol: found "raft"; allowed: "epaxos" or "multipaxos"'),
        ("f = 2", "f: found 2; allowed: 0 to 1 with n = 3"),
        ("e = 2", "e: found 2; allowed: 0 to 1 with n = 3 and f = 1"),
        ("f = 0\ne = 1", "e: found 1; allowed: 0 with n = 3 and f = 0"),
    ],
)
def test_values_that_do_not_fit_together_get_one_line(
    lines: str, problem: str, tables: str, problems: Problems
) -> None:
    assert problems(f"{lines}\n{tables}") == [f"{FILE}: {problem}"]


@pytest.mark.parametrize(
    "lines",
    [
        'beacon = "999ms"',
        'fast_path_timeout = "200ms"',
        "max_batch = 10\nmax_pending = 10",
        "max_frame = 2166784",
        "f = 0",
        "f = 1\ne = 0",
    ],
)
def test_values_at_the_limit_fit_together(lines: str, tables: str, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(f"{lines}\n{tables}")
    assert load_config(str(file), {}).n == 3


def bravo(**changes: str) -> str:
    """A file of alpha and a second replica, valid but for `changes`; an empty change leaves a key out."""
    keys = {"pid": "1", "name": '"bravo"', "host": '"127.0.0.1"', "port": "3265"}
    keys |= {"client_port": "4265", "metrics_port": "9265"} | changes
    return ALPHA + "[[replicas]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value)


TAKEN = "allowed: a distinct address; {} is taken by replica {}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"pid": "0"},
            "replica 2 (bravo), pid: found 0; allowed: a distinct pid; 0 is taken by replica 1 (alpha)",
        ),
        (
            {"name": '"alpha"'},
            (
                'replica 2 (alpha), name: found "alpha";'
                ' allowed: a distinct name; "alpha" is taken by replica 1 (alpha)'
            ),
        ),
        (
            {"port": "3264"},
            f"replica 2 (bravo), port: found 3264; {TAKEN.format('127.0.0.1:3264', '1 (alpha), port')}",
        ),
        (
            {"metrics_port": "4264"},
            (
                "replica 2 (bravo), metrics_port: found 4264;"
                f" {TAKEN.format('127.0.0.1:4264', '1 (alpha), client_port')}"
            ),
        ),
        (
            {"client_port": "3265"},
            (
                "replica 2 (bravo), client_port: found 3265;"
                f" {TAKEN.format('127.0.0.1:3265', '2 (bravo), port')}"
            ),
        ),
        ({"port": ""}, f"replica 2 (bravo), port: missing; allowed: {PORT}"),
        ({"name": ""}, f"replica 2, name: missing; allowed: {NAME}"),
        ({"name": "7"}, f"replica 2, name: found 7; allowed: {NAME}"),
        ({"port": "0"}, f"replica 2 (bravo), port: found 0; allowed: {PORT}"),
        ({"port": "65536"}, f"replica 2 (bravo), port: found 65536; allowed: {PORT}"),
        ({"pid": "-1"}, "replica 2 (bravo), pid: found -1; allowed: integer from 0 to 2147483647"),
        ({"prot": "1"}, 'replica 2 (bravo), prot: unknown key; did you mean "port"?'),
        (
            {"thrifty": "true"},
            (
                'replica 2 (bravo), thrifty: unknown key; "thrifty" belongs to the top of the file,'
                " before the first table"
            ),
        ),
    ],
)
def test_a_wrong_replica_gets_one_line(changes: dict[str, str], problem: str, problems: Problems) -> None:
    assert problems(bravo(**changes)) == [f"{FILE}: {problem}"]


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "0.0.0.0",
        "::",
        "*",
        "256.1.1.1",
        "1.2.3",
        "tcp://a",
        "a:1",
        "[::1]",
        "a..b",
        ".a",
        "ä",
        "a\n",
    ],
)
def test_a_wrong_host_gets_one_line(host: str, problems: Problems) -> None:
    shown = host.replace("\n", "\\n")
    expected = f'{FILE}: replica 2 (bravo), host: found "{shown}"; allowed: {HOST}'
    assert problems(bravo(host=f'"{shown}"')) == [expected]


@pytest.mark.parametrize(("one", "other"), [("Node.local", "node.LOCAL."), ("::1", "0:0::1")])
def test_two_ways_to_write_a_host_are_one_address(one: str, other: str, problems: Problems) -> None:
    text = ALPHA.replace("127.0.0.1", one) + bravo(host=f'"{other}"', port="3264").removeprefix(ALPHA)
    taken = TAKEN.format(f"{other}:3264", "1 (alpha), port")
    assert problems(text) == [f"{FILE}: replica 2 (bravo), port: found 3264; {taken}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("replicas = []", "none"),
        ("replicas = 3", "3"),
        ("[replicas]", "a table"),
        ("replicas = [1]", "an array"),
    ],
)
def test_replicas_that_are_no_tables_get_one_line(text: str, found: str, problems: Problems) -> None:
    assert problems(text) == [f"{FILE}: replicas: found {found}; allowed: one [[replicas]] table or more"]


@pytest.mark.parametrize(
    ("n", "key", "value", "allowed"),
    [
        (1, "f", 1, "0 with n = 1"),
        (2, "f", 1, "0 with n = 2"),
        (4, "f", 2, "0 to 1 with n = 4"),
        (5, "f", 3, "0 to 2 with n = 5"),
        (5, "e", 3, "0 to 2 with n = 5 and f = 2"),
        (7, "e", 3, "0 to 2 with n = 7 and f = 3"),
    ],
)
def test_impossible_thresholds_say_what_is_possible(
    n: int, key: str, value: int, allowed: str, problems: Problems
) -> None:
    tables = [ALPHA.replace("pid = 0", f"pid = {i}").replace("alpha", f"r{i}") for i in range(n)]
    text = "".join(table.replace("127.0.0.1", f"10.0.0.{i + 1}") for i, table in enumerate(tables))
    assert problems(f"{key} = {value}\n{text}") == [f"{FILE}: {key}: found {value}; allowed: {allowed}"]


def test_a_wrong_value_is_not_compared_with_others(problems: Problems) -> None:
    assert problems('timeout = "x"\nbeacon = "5s"\n') == [
        f'{FILE}: timeout: found "x"; allowed: duration from "10ms" to "1h"'
    ]


def test_every_mistake_gets_its_line_and_none_gets_two(problems: Problems) -> None:
    text = 'timeout = "x"\nf = 9\ntimout = 1\n[client]\ntries = 0\n' + bravo(port="0", host="1")
    assert problems(text, {"EPAXOS_BEACON": "x", "EPAXOS_MAX_BATCH": "7"}) == [
        f'{FILE}: timeout: found "x"; allowed: duration from "10ms" to "1h"',
        f'{FILE}: timout: unknown key; did you mean "timeout"?',
        f"{FILE}: client.tries: found 0; allowed: integer from 1 to 100",
        'environment: EPAXOS_BEACON: found "x"; allowed: duration from "1ms" to "10m"',
        f"{FILE}: replica 2 (bravo), host: found 1; allowed: {HOST}",
        f"{FILE}: replica 2 (bravo), port: found 0; allowed: {PORT}",
        f"{FILE}: f: found 9; allowed: 0 with n = 2",
    ]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"EPAXOS_THRIFTY": "yes"}, 'EPAXOS_THRIFTY: found "yes"; allowed: true or false'),
        ({"EPAXOS_THRIFTY": ""}, 'EPAXOS_THRIFTY: found ""; allowed: true or false'),
        ({"EPAXOS_MAX_BATCH": "x"}, 'EPAXOS_MAX_BATCH: found "x"; allowed: integer from 1 to 1000000'),
        ({"EPAXOS_MAX_BATCH": "0"}, 'EPAXOS_MAX_BATCH: found "0"; allowed: integer from 1 to 1000000'),
        (
            {"EPAXOS_CLIENT_TIMEOUT": "2h"},
            'EPAXOS_CLIENT_TIMEOUT: found "2h"; allowed: duration from "1ms" to "1h"',
        ),
        (
            {"EPAXOS_STORAGE_ENGINE": "tape"},
            'EPAXOS_STORAGE_ENGINE: found "tape"; allowed: "sqlite" or "memory"',
        ),
        ({"EPAXOS_TRIFTY": "true"}, 'EPAXOS_TRIFTY: unknown variable; did you mean "EPAXOS_THRIFTY"?'),
        ({"EPAXOS_thrifty": "true"}, 'EPAXOS_thrifty: unknown variable; did you mean "EPAXOS_THRIFTY"?'),
        ({"EPAXOS_CONF": "x"}, 'EPAXOS_CONF: unknown variable; did you mean "EPAXOS_CONFIG"?'),
        (
            {"EPAXOS_BEACON": "3s"},
            ('EPAXOS_BEACON: found "3s"; allowed: less than timeout, which is "1s" (the default)'),
        ),
        (
            {"EPAXOS_TIMEOUT": "90ms"},
            'EPAXOS_TIMEOUT: found "90ms"; allowed: more than beacon, which is "100ms" (the default)',
        ),
        ({"EPAXOS_F": "2"}, "EPAXOS_F: found 2; allowed: 0 to 1 with n = 3"),
    ],
)
def test_a_wrong_variable_gets_one_line(
    environ: dict[str, str], problem: str, tables: str, problems: Problems
) -> None:
    assert problems(tables, environ) == [f"environment: {problem}"]


def test_a_relation_broken_by_a_variable_names_it(tables: str, problems: Problems) -> None:
    assert problems(f'beacon = "90ms"\n{tables}', {"EPAXOS_TIMEOUT": "80ms"}) == [
        f'{FILE}: beacon: found "90ms"; allowed: less than timeout, which is "80ms" (from EPAXOS_TIMEOUT)'
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb = = 2\n", "line 2, column 5"),
        ("a = 1\nb 2\n", "line 2, column 3"),
        ("f = 1\nf = 1\n", "line 2, column 6"),
        ("f = 1 \\\n", "line 1, column 7"),
        ("a = 1\nb = [1,\n", "line 2, the end of the file"),
        ("a = 1\r\n[client]\r\n[client]\r\n", "line 3, column 8"),
        ("host = 127.0.0.1\n", "line 1, column 13"),
        ('a = "x', "line 1, the end of the file"),
    ],
)
def test_what_is_not_toml_gets_its_line(text: str, place: str, problems: Problems) -> None:
    (problem,) = problems(text)
    beginning, words = f"{FILE}: {place}: not TOML: ", problem.rpartition(": ")[2]
    assert problem.startswith(beginning)
    assert words  # they are the library's
    assert "(at " not in words


def test_toml_beyond_what_can_be_read_gets_one_line(problems: Problems) -> None:
    assert problems(f"a = {'[' * 100_000}") == [f"{FILE}: not TOML that can be read: nested too deeply"]
    (too_long,) = problems(f"a = {'1' * 5000}")
    assert too_long.startswith(f"{FILE}: not TOML that can be read: ")
    (mixed,) = problems("a = [1, 2.0]\n")
    assert mixed.startswith(f"{FILE}: TOML that the toml package cannot read: ")


@pytest.mark.parametrize("failure", [IndexError("list index out of range"), TypeError("odd"), KeyError("x")])
def test_whatever_the_toml_package_raises_gets_one_line(
    failure: Exception, problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise failure

    monkeypatch.setattr(toml, "loads", fail)
    assert problems("f = 1") == [f"{FILE}: TOML that the toml package cannot read: {failure}"]


def test_what_is_not_text_gets_its_line() -> None:
    Path(FILE).write_bytes(b"f = 1\nname = '\xff'\n")
    with pytest.raises(ConfigError, match=rf"^{FILE}: line 2: not TOML: byte 0xff is not UTF-8$"):
        load_config(FILE, {})


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("missing.toml", "missing.toml: cannot be read: No such file or directory"),
        ("", ": cannot be read: "),
        (".", ".: cannot be read: Is a directory"),
        ("a\0b", r"'a\x00b': cannot be read: embedded null byte"),
        ("/dev/zero", "/dev/zero: larger than a configuration may be: 262144 bytes"),
    ],
)
def test_an_unreadable_file_gets_one_line(path: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_permission_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")  # as root, tests cannot make a file unreadable

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"^secret\.toml: cannot be read: Permission denied$"):
        load_config("secret.toml", {})
