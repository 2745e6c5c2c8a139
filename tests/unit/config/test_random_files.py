"""Whatever is in a file or in the environment, it is a configuration or a `ConfigError`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from epaxos.config import default_replicas, load_config, make_config, render_file
from epaxos.config.keys import KEYS, VARIABLES
from epaxos.config.loading import parse_toml
from epaxos.errors import ConfigError

VALID = render_file("local", default_replicas(3))
LINES = [line for line in VALID.splitlines() if line and not line.startswith("#")]
PIECES = [*"[]\"'=.,{}#\n\\\r 0a-+_eTZ:", '"""', "'''", "[[", "]]", "\\u12", "0x", "1979-05-27T", "ä", "\0"]
WITHOUT_CLOCK = settings(deadline=None)  # the machine may be busy with other tests
ONE_FILE = settings(
    WITHOUT_CLOCK,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the file is overwritten each time
)

Mutation = tuple[int, int, str]
mutations = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 6), st.sampled_from(PIECES)), min_size=1, max_size=4
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates()
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
names = st.sampled_from([key.name for key in KEYS] + ["client", "storage", "replicas"]) | st.text(max_size=9)
tables = st.dictionaries(names, values, max_size=5)


def check_lines(error: ConfigError, beginning: str | tuple[str, ...]) -> None:
    """Every line stands by itself and can be printed."""
    for line in str(error).split("\n"):
        assert line.startswith(beginning)
        assert line.isprintable()


@ONE_FILE
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbfname = 'x'")
def test_random_bytes(content: bytes) -> None:
    Path("x.toml").write_bytes(content)
    try:
        config = load_config("x.toml", {})
    except ConfigError as error:
        check_lines(error, "x.toml: ")
    else:
        assert config.n == 3


@WITHOUT_CLOCK
@given(mutations)
def test_mutated_files(changes: list[Mutation]) -> None:
    text = "\n".join(LINES)
    for position, length, piece in changes:
        at = position % len(text)
        text = text[:at] + piece + text[at + length :]
    try:
        document = parse_toml(text, "x.toml")
        config = make_config(document, "x.toml")
    except ConfigError as error:
        check_lines(error, "x.toml: ")
    else:
        assert config.n == 3
        assert document == tomllib.loads(text)


@WITHOUT_CLOCK
@given(st.lists(st.sampled_from(LINES), max_size=30))
def test_shuffled_lines(lines: list[str]) -> None:
    try:
        make_config(parse_toml("\n".join(lines), "x.toml"), "x.toml")
    except ConfigError as error:
        check_lines(error, "x.toml: ")


@WITHOUT_CLOCK
@given(st.dictionaries(names, values | tables, max_size=5))
def test_random_documents(document: dict[str, object]) -> None:
    try:
        make_config(document, "x.toml")
    except ConfigError as error:
        check_lines(error, "x.toml: ")


@WITHOUT_CLOCK
@given(st.lists(tables | values, max_size=3))
def test_random_replicas(tables: list[object]) -> None:
    try:
        make_config({"replicas": tables}, "x.toml")
    except ConfigError as error:
        check_lines(error, "x.toml: ")


@WITHOUT_CLOCK
@given(st.dictionaries(st.sampled_from(list(VARIABLES)) | st.text().map("EPAXOS_{}".format), st.text()))
def test_random_variables(environ: dict[str, str]) -> None:
    try:
        make_config({"replicas": default_replicas(3)}, "x.toml", environ)
    except ConfigError as error:
        check_lines(error, ("environment: EPAXOS_", "x.toml: max_frame: "))
