"""The sub-commands of `epaxos config`: check a file, write a new one, list all keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, Never

import click

from epaxos.cli.options import load_any
from epaxos.cli.pages import Page
from epaxos.config import (
    LOCALHOST,
    REPLICA_NAMES,
    Config,
    default_replicas,
    markdown_table,
    render_file,
    show,
)
from epaxos.config.loading import find_file
from epaxos.errors import ConfigError
from epaxos.transport.addresses import at_once, resolve

USAGE_ERROR: Final = 2
NAME_PATIENCE: Final = 5.0
"""Seconds for which `config check` waits for the resolver."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """Check a configuration file, write a new one, list all keys."""


@config.command()
@click.argument("file", required=False)
@click.option(
    "-c", "--config", "config_file", metavar="FILE", help="The same FILE, as other commands take it."
)
def check(file: str | None, config_file: str | None) -> None:
    """Check the configuration FILE, of a cluster or of groups; without one, the file that other commands find.

    Prints one line about what it describes and ends with 0, or prints a line for each problem to
    stderr (where it is, what was found, what is allowed) and ends with 2. EPAXOS_ variables are left aside.

    What looks wrong from this machine, and need not be from others, is a warning on stderr: a host that does not
    resolve, or that means the loopback interface where other replicas are elsewhere.
    """
    if file is not None and config_file is not None:
        raise click.UsageError(f"found {file!r} and --config {config_file!r}; allowed: one of them")
    file = file or config_file or find_file(os.environ)
    if file is None:
        raise click.UsageError("no FILE is given, and none is where other commands look; see: epaxos --help")
    try:
        cluster = load_any(file, environ={})
    except ConfigError as error:
        _fail(error)
    if not isinstance(cluster, Config):
        names = [group.name for group in cluster.groups]
        click.echo(f"{file}: ok: {len(names)} group{'s'[: len(names) > 1]}: {', '.join(names)}")
        return
    click.echo(f"{file}: ok: {summary(cluster)}")
    for warning in _warnings(cluster):
        click.echo(f"{file}: warning: {warning}", err=True)


@config.command(cls=Page)
@click.option(
    "--replicas",
    "count",
    type=click.IntRange(1, len(REPLICA_NAMES)),
    required=True,
    help="How many replicas; they are called alpha, bravo, charlie, ...",
)
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    default=[LOCALHOST],
    show_default=True,
    help="Host of the replicas; give it several times to spread them, in turns.",
)
@click.option("--name", metavar="NAME", default="local", show_default=True, help="Name of the cluster.")
@click.option(
    "--minimal", is_flag=True, help="Only the name and the replicas; all other keys have their defaults."
)
def init(count: int, hosts: tuple[str, ...], name: str, *, minimal: bool) -> None:
    """Write a new configuration to stdout.

    It has every key with its purpose, what is allowed and its default, unless --minimal is given. Replicas on
    one host get the ports 3264, 3265, ... for peers, 4264, ... for clients and 9264, ... for metrics.

    Examples:
      epaxos config init --replicas 3 > epaxos.toml
      epaxos config init --replicas 2 --host node1 --host node2 > epaxos.toml
    """
    try:
        click.echo(render_file(name, default_replicas(count, hosts), minimal=minimal), nl=False)
    except ConfigError as error:
        _fail(error)


@config.command()
def keys() -> None:
    """Print a table of all keys in Markdown."""
    click.echo(markdown_table(), nl=False)


def summary(cluster: Config) -> str:
    """The cluster in one line."""
    names = ", ".join(replica.name for replica in cluster.replicas)
    return (
        f"{cluster.n} {'replica' if cluster.n == 1 else 'replicas'} ({names}), f={cluster.f}, e={cluster.e},"
        f" slow quorum {cluster.slow_quorum}, fast quorum {cluster.fast_quorum}"
    )


def _warnings(cluster: Config) -> Iterator[str]:
    """What the names of the replicas mean here, where that looks wrong."""
    hosts = [replica.host for replica in cluster.replicas]
    found = at_once(_meaning, hosts, NAME_PATIENCE)
    elsewhere = any(isinstance(meaning, list) and not _is_loopback(meaning) for meaning in found)
    for replica, meaning in zip(cluster.replicas, found, strict=True):
        place = f"replica {replica.name}, host:"
        if meaning is None:
            yield f"{place} the resolver did not answer within {NAME_PATIENCE:g}s about {show(replica.host)}"
        elif isinstance(meaning, OSError):
            yield f"{place} {show(replica.host)} does not resolve here ({meaning.strerror or meaning})"
        elif elsewhere and replica.listen is None and _is_loopback(meaning):
            yield (
                f"{place} {show(replica.host)} means {', '.join(meaning)} here, which no other machine can reach,"
                f" and other replicas are elsewhere; set `listen` if {replica.name} runs here"
            )


def _meaning(host: str) -> list[str] | OSError:
    try:
        return resolve(host)
    except OSError as error:
        return error


def _is_loopback(addresses: list[str]) -> bool:
    return all(ip_address(address).is_loopback for address in addresses)


def _fail(error: ConfigError) -> Never:
    """Say what is wrong and end."""
    click.echo(str(error), err=True)
    sys.exit(USAGE_ERROR)
