"""Keys and values on the command line: text, hexadecimal digits, or standard input."""

from __future__ import annotations

import os
import sys

import click

from epaxos.cli.streams import read_stdin

STDIN = "-"


def key_bytes(text: str, name: str = "KEY", *, hexadecimal: bool) -> bytes:
    """The key that the argument called `name` says.

    Raises:
        click.UsageError: it is not hexadecimal, but should be.
    """
    return _from_hex(text, name) if hexadecimal else os.fsencode(text)


def value_bytes(text: str, name: str, *, hexadecimal: bool, longest: int) -> bytes:
    """The value that the argument called `name` says; `-` means all of standard input.

    Raises:
        click.UsageError: it is not hexadecimal, but should be, or is longer than `longest` bytes.
    """
    if text == STDIN:
        return _from_stdin(name, hexadecimal=hexadecimal, longest=longest)
    return _from_hex(text, name) if hexadecimal else os.fsencode(text)


def _from_stdin(name: str, *, hexadecimal: bool, longest: int) -> bytes:
    """All of standard input; it is not read further than it may be long, since it may have no end."""
    most = longest * 3 + 1 if hexadecimal else longest  # two digits and a space a byte, and a line's end
    content = read_stdin(most + 1)
    if len(content) > most:
        raise click.UsageError(f"{name}: standard input has more than max_value allows, {longest} bytes")
    return _from_hex(content.decode("ascii", "replace"), name) if hexadecimal else content


def _from_hex(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise click.UsageError(
            f"{name}: found {shown!r}; allowed: hexadecimal digits, two a byte, like 00ff"
        ) from error


def print_value(value: bytes, *, raw: bool, hexadecimal: bool) -> None:
    """Print a value: as hexadecimal digits, or readable if to a terminal and not `raw`, or as it is."""
    stdout = sys.stdout.buffer
    if hexadecimal:
        stdout.write(value.hex().encode() + b"\n")
    elif raw or not sys.stdout.isatty():
        stdout.write(value)
    else:
        click.echo(readable(value))
    stdout.flush()


def readable(value: bytes) -> str:
    r"""The value as text in which nothing can steer a terminal: what is no text is shown as in \x1b."""
    text = value.decode(errors="backslashreplace")
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )
