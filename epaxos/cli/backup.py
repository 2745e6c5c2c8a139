"""`epaxos backup`: copy what a replica holds into a file, while it runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

import click

from epaxos.backup.file import Header, Written
from epaxos.backup.places import TIME, Place, place_of, stamped
from epaxos.backup.places import keep as keep_last
from epaxos.backup.saving import Moment, save
from epaxos.cli.failures import complain
from epaxos.cli.options import (
    STDOUT,
    config_option,
    find_replica,
    load,
    positive_duration,
    timeout_option,
)
from epaxos.cli.pages import Page
from epaxos.client.blocking import Client
from epaxos.config import Config
from epaxos.errors import ConfigError, EpaxosError
from epaxos.protocol.ids import slots_text
from epaxos.storage.reading import Reading

_PATIENCE: Final = 10.0
"""Seconds for a checkpoint to be written, beside the interval at which they are begun."""


@click.command(cls=Page)
@click.argument("name")
@click.argument("file")
@click.option(
    "--at-once", is_flag=True, help="Take the last checkpoint as it is, without waiting for the next."
)
@click.option(
    "--every",
    metavar="DURATION",
    callback=positive_duration,
    help="Make another one so often, until Ctrl-C; FILE must have {time} in its name.",
)
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", help="Remove all but the last N; with {time}."
)
@config_option
@timeout_option(
    "Give up if there is no fresh checkpoint within this long, not counting storage.checkpoint.", "10s"
)
def backup(
    name: str,
    file: str,
    *,
    at_once: bool,
    every: float | None,
    keep: int | None,
    config_file: str | None,
    timeout: float | None,
) -> None:
    """Copy what the replica NAME holds into FILE: all values, and which requests of clients have executed.

    FILE is a path, or s3://BUCKET/KEY, or - for standard output; what reads that has all of the backup only if this
    ends with 0. {time} in it becomes the time in UTC.

    It is done on the replica's machine, from its data directory, and the replica goes on meanwhile. If it
    runs, FILE has everything that it knew of when this began, and so all that it had answered; this waits for a
    checkpoint that has, which takes storage.checkpoint at most on a healthy cluster. If it does not run, or with
    --at-once, FILE is its last checkpoint.

    Storage that speaks S3 needs the extra s3. boto3 finds out where it is and who asks: AWS_ENDPOINT_URL,
    AWS_ACCESS_KEY_ID, ~/.aws, roles.

    With --every it goes on, also after one that failed, which it says on stderr.

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
      epaxos backup alpha - | ssh vault 'cat > today.backup'
      epaxos backup alpha 's3://vault/alpha-{time}.backup' --every 1h --keep 48
    """
    if file == STDOUT and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; give a FILE, or a pipe to read the backup")
    if (every or keep) and TIME not in file:
        raise click.UsageError(
            f"--every and --keep need {TIME} in the name of FILE, as in alpha-{TIME}.backup"
        )
    config = load(config_file)
    replica = find_replica(config, name)
    if config.storage.engine == "memory":
        raise ConfigError(f"{config.source}: storage.engine is 'memory': there is nothing on disk to copy")
    place = None if file == STDOUT else place_of(file)
    while True:
        began = time.monotonic()
        try:
            _save(config, replica.name, place, at_once=at_once, timeout=timeout)
            if place is not None and keep:
                for gone in keep_last(place, keep):
                    click.echo(f"removed {gone}")
        except EpaxosError as error:
            if every is None:
                raise
            complain(str(error), "epaxos backup")
        if every is None:
            return
        time.sleep(max(0.0, began + every - time.monotonic()))


def _save(config: Config, name: str, place: Place | None, *, at_once: bool, timeout: float | None) -> None:
    """Make one backup, to a place or to standard output."""
    with Reading(config.storage.directory_of(name)) as reading:
        if reading.identity.cluster != config.identity:
            raise ConfigError(f"{config.source}: {reading.path} holds the data of another cluster")
        wanted: Moment | None = None
        limit = 0.0
        if reading.user is None:
            click.echo(f"{name} does not run: this is its last checkpoint, without what followed", err=True)
        elif not at_once:
            wanted = _known(config, name)
            limit = config.storage.checkpoint + (_PATIENCE if timeout is None else timeout)

        def make(target: Path | BinaryIO) -> tuple[Header, Written]:
            return save(reading, target, wanted, limit)

        target = "standard output" if place is None else stamped(place.name)
        header, written = make(sys.stdout.buffer) if place is None else place.write(target, make)
    click.echo(
        f"{target}: {written.keys} keys and {written.sessions} sessions of {name}, "
        f"executed up to {slots_text(header.executed)}; {written.size} bytes",
        err=place is None,
    )


def _known(config: Config, name: str) -> Moment:
    """Up to where the replica has heard of instances."""
    with Client(config=config, replica=name) as client:
        status = client.status(replica=name)
        return Moment(status.epoch, tuple(status.seen))
