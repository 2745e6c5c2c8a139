"""`epaxos restore`: make a new cluster of what a backup holds."""

from __future__ import annotations

import sys

import click

from epaxos.backup.file import BackupFile
from epaxos.backup.places import place_of
from epaxos.backup.restoring import restore as make_directories
from epaxos.cli.options import STDOUT, config_option, load
from epaxos.cli.pages import Page


@click.command(cls=Page)
@click.argument("file")
@config_option
def restore(file: str, *, config_file: str | None) -> None:
    """Make the data directories of a new cluster, that of the configuration, of the backup FILE.

    FILE is a path, or s3://BUCKET/KEY (which needs the extra s3), or - for standard input.

    The new cluster must have another name than the old one, and none of its directories may hold anything. It
    may have more replicas, or fewer. All directories are made here, under storage.directory, in one act: move
    each to the machine of its replica before you start any. A single replica cannot be restored: it would
    break promises that it has made since the backup.

    Exit codes:
      0  done
      1  FILE is no backup, or damaged; or a directory cannot be written
      2  wrong options or configuration: the old name, or a directory with data

    Examples:
      epaxos restore -c new.toml today.backup
      epaxos up -c new.toml
      ssh vault 'cat today.backup' | epaxos restore -c new.toml -
      epaxos restore -c new.toml s3://vault/alpha-20260102T030405Z.backup
    """
    if file == STDOUT and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal; give a FILE, or a pipe with the backup")
    config = load(config_file)
    source = sys.stdin.buffer if file == STDOUT else place_of(file).open()
    with BackupFile(source, "the backup from standard input" if file == STDOUT else file) as backup:
        restored = make_directories(config, backup)
        header = backup.header
    click.echo(
        f"{backup.name}: {restored.keys} keys and {restored.sessions} sessions of {header.replica}, {header.time}, "
        f"are now cluster {config.name}"
    )
    for directory in restored.directories:
        click.echo(str(directory))
