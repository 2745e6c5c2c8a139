"""The `epaxos` command.

A sub-command is imported when it is used: `epaxos get` does not pay for what `epaxos bench` needs. So this
module imports little, and the help of `epaxos` itself comes from the table below.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final, NamedTuple, NoReturn

import click

from epaxos.cli.failures import (
    PROGRAM,
    Exit,
    check_installed,
    complain,
    exit_code,
    report_click,
    report_stream,
)
from epaxos.cli.pages import Page
from epaxos.cli.streams import StreamError, guard
from epaxos.errors import EpaxosError
from epaxos.version import __version__


class Entry(NamedTuple):
    """Where a sub-command is found, and what the help of `epaxos` says of it.

    needs  modules that are not installed with every client, and `extra` the name under which setup.cfg has them
    """

    section: str
    module: str
    purpose: str
    extra: str = ""
    needs: tuple[str, ...] = ()


CLUSTER: Final = "Run a cluster"
DATA: Final = "Read and write"
DISK: Final = "Look after the data"
OTHER: Final = "Measure and configure"

SERVER: Final = ("prometheus_client", "pykka", "starlette", "uvicorn")

ENTRIES: Final = {
    "serve": Entry(CLUSTER, "epaxos.cli.serve", "Run one replica.", "server", SERVER),
    "up": Entry(
        CLUSTER, "epaxos.cli.up", "Run all replicas of a configuration on this machine.", "server", SERVER
    ),
    "status": Entry(CLUSTER, "epaxos.cli.status", "Show how each replica does.", "server", ("rich",)),
    "doctor": Entry(CLUSTER, "epaxos.cli.doctor", "Look for what is wrong, from this machine."),
    "member": Entry(CLUSTER, "epaxos.cli.member", "Show the members, or begin another epoch."),
    "upgrade": Entry(CLUSTER, "epaxos.cli.upgrade", "Use what is new once all run it."),
    "get": Entry(DATA, "epaxos.cli.store", "Print the value of a key."),
    "exists": Entry(DATA, "epaxos.cli.store", "Tell whether a key has a value."),
    "put": Entry(DATA, "epaxos.cli.store", "Set the value of a key."),
    "delete": Entry(DATA, "epaxos.cli.store", "Remove a key."),
    "cas": Entry(DATA, "epaxos.cli.store", "Set the value of a key if it is the expected one."),
    "incr": Entry(DATA, "epaxos.cli.store", "Add to the number under a key."),
    "append": Entry(DATA, "epaxos.cli.store", "Add to the end of a value."),
    "scan": Entry(DATA, "epaxos.cli.listing", "List keys and values in order."),
    "count": Entry(DATA, "epaxos.cli.listing", "Count keys."),
    "watch": Entry(DATA, "epaxos.cli.watch", "Print what changes, as it happens."),
    "delete-prefix": Entry(DATA, "epaxos.cli.listing", "Remove all keys that begin alike."),
    "expire": Entry(DATA, "epaxos.cli.store", "Let a value end after some time."),
    "ttl": Entry(DATA, "epaxos.cli.store", "Print how long a value lasts."),
    "persist": Entry(DATA, "epaxos.cli.store", "Let a value stay that would have ended."),
    "transactions": Entry(
        DATA, "epaxos.cli.transactions", "Show and end transactions across groups that nobody ends."
    ),
    "inspect": Entry(
        DISK, "epaxos.cli.inspect", "Show what a replica's data directory holds.", "server", ("rich",)
    ),
    "backup": Entry(DISK, "epaxos.cli.backup", "Copy what a replica holds into a file, while it runs."),
    "restore": Entry(DISK, "epaxos.cli.restore", "Make a new cluster of what a backup holds."),
    "bench": Entry(
        OTHER, "epaxos.cli.bench", "Load a running cluster and report what it did.", "bench", ("hdrh", "rich")
    ),
    "simulate": Entry(
        OTHER, "epaxos.cli.simulate", "Run simulated clusters and check them.", "bench", ("rich",)
    ),
    "registers": Entry(OTHER, "epaxos.cli.registers", "Single values by consensus, without a cluster."),
    "keys": Entry(OTHER, "epaxos.cli.keys", "Make keys, and say who may come in and what for."),
    "config": Entry(OTHER, "epaxos.cli.config", "Check a configuration file or write a new one."),
}


class Application(Page, click.Group):
    """The group of all sub-commands, and what happens to their errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group.list_commands`."""
        del ctx
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a sub-command; see `click.Group.get_command`."""
        del ctx
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        check_installed(cmd_name, entry.extra, entry.needs)
        command = getattr(importlib.import_module(entry.module), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See `click.Group.resolve_command`; a word that is no command gets a suggestion."""
        word = args[0]
        if word not in ENTRIES and not word.startswith("-") and not ctx.resilient_parsing:
            from epaxos.config.suggestion import advice  # noqa: PLC0415 - costly, and needed here alone

            raise click.UsageError(f"no command {word!r}; {advice(word, ENTRIES)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Group.format_commands`; imports nothing."""
        del ctx
        for section in (CLUSTER, DATA, DISK, OTHER):
            rows = [(name, entry.purpose) for name, entry in ENTRIES.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_spacing=4)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the sub-command; see `click.Group.invoke`."""
        try:
            return super().invoke(ctx)
        except EpaxosError as error:
            complain(str(error), ctx.command_path)
            ctx.exit(exit_code(error))

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command line, say in one line what is wrong, and end; see `click.Command.main`."""
        guard()
        kwargs.setdefault("prog_name", PROGRAM)
        sys.exit(self._run(*args, **(kwargs | {"standalone_mode": False})))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        """The exit code; commands return none, so what click returns is that of an early end."""
        try:
            code = super().main(*args, **kwargs) or Exit.DONE
            sys.stdout.flush()
            return int(code)
        except click.ClickException as error:
            return report_click(error)
        except click.Abort:
            return Exit.INTERRUPTED
        except StreamError as error:
            return report_stream(error)
        except OSError as error:
            name = "" if error.filename is None else f"{error.filename}: "
            complain(f"{name}{error.strerror or error}")
            return Exit.STREAM


@click.group(
    PROGRAM,
    cls=Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message=f"{PROGRAM} %(version)s")
def main() -> None:
    """A leaderless replicated key-value store.

    Each command has a help of its own: epaxos COMMAND --help.

    Examples:
      epaxos up                   run a cluster on this machine; Ctrl-C stops it
      epaxos put greeting hello   set a value
      epaxos get greeting         print it
      epaxos status               show how each replica does
      epaxos config init --replicas 5 > epaxos.toml

    The configuration is the file given with --config, or that of the variable EPAXOS_CONFIG, or the first
    of ./epaxos.toml, ~/.epaxos.toml and /etc/epaxos.toml that exists; without one there are three replicas
    (alpha, bravo, charlie) on this machine.

    Results go to stdout, everything else to stderr.

    Exit codes:
      0    done
      1    not found, not the expected value, or failed
      2    wrong command line or configuration, or a command that is refused
      3    no answer
      4    standard input or output, or a file, cannot be read or written
      130  interrupted by Ctrl-C
      141  nobody reads what is printed
    """
