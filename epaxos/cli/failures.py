"""How the `epaxos` command ends: its exit codes, and one line for what went wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum

import click

from epaxos.cli.streams import StreamError
from epaxos.errors import Busy, Closed, ConfigError, EpaxosError, NoAnswer, Refused

PROGRAM = "epaxos"


class Exit(IntEnum):
    """Exit codes.

    FAILED       not found, not the expected value, or another result that a script wants to tell from DONE
    USAGE        the command line, the configuration or the command itself is not allowed
    NO_ANSWER    no replica answered, or all were busy
    STREAM       standard input or output, or a file, cannot be read or written
    INTERRUPTED  Ctrl-C; 128 + SIGINT, as a shell reports it
    PIPE         nobody reads what is printed; 128 + SIGPIPE
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_ANSWER = 3
    STREAM = 4
    INTERRUPTED = 130
    PIPE = 141


def exit_code(error: EpaxosError) -> Exit:
    """The exit code for an error."""
    if isinstance(error, (ConfigError, Refused)):
        return Exit.USAGE
    if isinstance(error, (NoAnswer, Busy, Closed)):
        return Exit.NO_ANSWER
    return Exit.FAILED


def complain(text: str, program: str = PROGRAM) -> None:
    """Say on stderr what is wrong; each line of `text` is a problem of its own."""
    with suppress(OSError):  # whoever reads stderr has left; the exit code stands
        for line in text.splitlines() or [""]:
            click.echo(f"{program}: {line}", err=True)


def report_click(error: click.ClickException) -> int:
    """Say in one line what is wrong with the command line; the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    program = PROGRAM if context is None else context.command_path
    hint = "" if context is None else f" (see {program} --help)"
    if context is not None and isinstance(error, click.NoSuchOption) and not error.possibilities:
        words = [
            argument.make_metavar(context)
            for argument in context.command.params
            if isinstance(argument, click.Argument)
        ]
        if words:
            hint = (
                f"; if that is no option but a value, say -- before it: {program} -- {' '.join(words)}{hint}"
            )
    complain(error.format_message().strip().rstrip(".") + hint, program)
    return error.exit_code


def report_stream(error: StreamError) -> Exit:
    """Say in one line what cannot be read or written, unless its reader has left; the exit code."""
    if error.unread:
        return Exit.PIPE
    complain(str(error))
    return Exit.STREAM


def check_installed(command: str, extra: str, modules: Iterable[str]) -> None:
    """See that what a command needs, and not every client has, is there; `extra` is its name in setup.cfg.

    Raises:
        ConfigError: it is not.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{command} needs what is not installed here ({', '.join(missing)}): pip install 'epaxos[{extra}]'"
        )
