from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.cli.values import key_bytes, print_value, readable, value_bytes


def set_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> io.BytesIO:
    stream = io.BytesIO(content)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
    return stream


def set_stdout(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.BytesIO:
    stream = io.BytesIO()
    text = io.TextIOWrapper(stream, write_through=True)
    monkeypatch.setattr(text, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", text)
    return stream


def test_text_is_taken_as_the_shell_gives_it() -> None:
    assert key_bytes("größe", hexadecimal=False) == "größe".encode()
    assert key_bytes("\udcff", hexadecimal=False) == b"\xff"


@given(st.binary())
def test_hexadecimal_values_come_back(value: bytes) -> None:
    assert key_bytes(value.hex(), hexadecimal=True) == value
    assert value_bytes(value.hex().upper(), "VALUE", hexadecimal=True, longest=0) == value


@pytest.mark.parametrize("text", ["0", "0g", "0x00", "-"])
def test_not_hexadecimal(text: str) -> None:
    with pytest.raises(click.UsageError, match=r"KEY: found '.*'; allowed: hexadecimal digits"):
        key_bytes(text, hexadecimal=True)


def test_a_long_mistake_is_shortened() -> None:
    with pytest.raises(click.UsageError, match=r"found 'x{40}…'; allowed"):
        key_bytes("x" * 10_000, hexadecimal=True)


@pytest.mark.parametrize("content", [b"", b"abc", b"\n", b"\x00\xff\r\n"])
def test_standard_input_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    set_stdin(monkeypatch, content)
    assert value_bytes("-", "VALUE", hexadecimal=False, longest=4) == content


@pytest.mark.parametrize("content", [b"00ff", b"00 ff\n", b"00\nff\n"])
def test_standard_input_in_hexadecimal(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    set_stdin(monkeypatch, content)
    assert value_bytes("-", "VALUE", hexadecimal=True, longest=2) == b"\x00\xff"


@pytest.mark.parametrize(("hexadecimal", "content"), [(False, b"12345"), (True, b"00 11 22 33 44\n")])
def test_standard_input_is_not_read_to_an_end_it_may_not_have(
    monkeypatch: pytest.MonkeyPatch, content: bytes, *, hexadecimal: bool
) -> None:
    stream = set_stdin(monkeypatch, content + b"0" * 1000)
    with pytest.raises(click.UsageError, match="standard input has more than max_value allows, 4 bytes"):
        value_bytes("-", "VALUE", hexadecimal=hexadecimal, longest=4)
    assert stream.tell() < 20


@pytest.mark.parametrize(
    ("terminal", "raw", "hexadecimal", "printed"),
    [
        (False, False, False, b"a\x1b\xff"),
        (False, True, False, b"a\x1b\xff"),
        (False, False, True, b"611bff\n"),
        (True, False, False, b"a\\x1b\\xff\n"),
        (True, True, False, b"a\x1b\xff"),
        (True, False, True, b"611bff\n"),
    ],
)
def test_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, printed: bytes, *, terminal: bool, raw: bool, hexadecimal: bool
) -> None:
    stdout = set_stdout(monkeypatch, terminal=terminal)
    print_value(b"a\x1b\xff", raw=raw, hexadecimal=hexadecimal)
    assert stdout.getvalue() == printed


@given(st.binary())
def test_nothing_steers_the_terminal(value: bytes) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in readable(value))


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_text_is_readable_as_it_is(text: str) -> None:
    assert readable(text.encode()) == text
