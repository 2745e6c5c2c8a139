"""`epaxos backup`: copy what a replica holds into a file, while it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from epaxos.backup.saving import Moment, save
from epaxos.cli.options import STDOUT, config_option, find_replica, load, timeout_option
from epaxos.cli.pages import Page
from epaxos.client.blocking import Client
from epaxos.config import Config
from epaxos.errors import ConfigError
from epaxos.protocol.ids import slots_text
from epaxos.storage.reading import Reading

_PATIENCE: Final = 10.0
"""Seconds for a checkpoint to be written, beside the interval at which they are begun."""


@click.command(cls=Page)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--at-once", is_flag=True, help="Take the last checkpoint as it is, without waiting for the next."
)
@config_option
@timeout_option(
    "Give up if there is no fresh checkpoint within this long, not counting storage.checkpoint.", "10s"
)
def backup(name: str, file: Path, *, at_once: bool, config_file: str | None, timeout: float | None) -> None:
    """Copy what the replica NAME holds into FILE: all values, and which requests of clients have executed.

    - as FILE is standard output; what reads it has all of the backup only if this ends with 0.

    It is done on the replica's machine, from its data directory, and the replica goes on meanwhile. If it
    runs, FILE has everything that it knew of when this began, and so all that it had answered; this waits for a
    checkpoint that has, which takes storage.checkpoint at most on a healthy cluster. If it does not run, or with
    --at-once, FILE is its last checkpoint.

    FILE is for `epaxos restore`, which makes a new cluster of it. Do not copy a data directory instead: a
    replica that starts with an old copy breaks promises that it has made since.

    Exit codes:
      0  done
      1  no checkpoint, or FILE exists or cannot be written
      2  wrong command line or configuration
      3  the replica runs and does not answer
      4  standard output cannot be written

    Examples:
      epaxos backup -c conf/local.toml alpha today.backup
      epaxos backup alpha "$(date +%F).backup"
      epaxos backup alpha - | ssh vault 'cat > today.backup'
    """
    to_stdout = str(file) == STDOUT
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; give a FILE, or a pipe to read the backup")
    config = load(config_file)
    replica = find_replica(config, name)
    if config.storage.engine == "memory":
        raise ConfigError(f"{config.source}: storage.engine is 'memory': there is nothing on disk to copy")
    with Reading(config.storage.directory_of(replica.name)) as reading:
        if reading.identity.cluster != config.identity:
            raise ConfigError(f"{config.source}: {reading.path} holds the data of another cluster")
        wanted: Moment | None = None
        limit = 0.0
        if reading.user is None:
            click.echo(f"{name} does not run: this is its last checkpoint, without what followed", err=True)
        elif not at_once:
            wanted = _known(config, name)
            limit = config.storage.checkpoint + (_PATIENCE if timeout is None else timeout)
        target = sys.stdout.buffer if to_stdout else file
        header, written = save(reading, target, wanted, limit)
    click.echo(
        f"{'standard output' if to_stdout else file}: {written.keys} keys and {written.sessions} sessions of {name}, "
        f"executed up to {slots_text(header.executed)}; {written.size} bytes",
        err=to_stdout,
    )


def _known(config: Config, name: str) -> Moment:
    """Up to where the replica has heard of instances."""
    with Client(config=config, replica=name) as client:
        status = client.status(replica=name)
        return Moment(status.epoch, tuple(status.seen))
