"""`epaxos keys`: make keys, and say who may come in and what for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from epaxos.cli.options import load, positive_duration
from epaxos.cli.pages import Page, PagedGroup
from epaxos.config import Config
from epaxos.errors import ConfigError
from epaxos.security.making import Listing, add_client, add_replica, init_keys, listed, remove

DIRECTORY: Final = "keys"
"""Where keys are made, beside the configuration, if it does not say where."""

_config_option: Final = click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    help="The cluster's configuration; its security.keys says where keys are.  [default: as of other commands]",
)


@click.group(cls=PagedGroup, context_settings={"help_option_names": ["-h", "--help"]})
def keys() -> None:
    """Make keys, and say who may come in and what for.

    A cluster whose configuration names a directory of keys (security.keys) lets nobody in without one.

    Exit codes:
      0  done
      2  wrong command line, configuration or list, or a name that is taken

    Examples:
      epaxos keys init
      epaxos keys add web --role write --prefix web/
      epaxos keys list
      epaxos keys remove web
    """


@keys.command(cls=Page)
@_config_option
def init(config_file: str | None) -> None:
    """Make the keys of a cluster: one for each replica, and one of a client called admin.

    They are made in the directory that security.keys names, else in "keys" beside the configuration, which is
    then to name it. Keys that are there stay, so this also makes those of replicas that are new in the file.
    NAME.key is a secret: each replica needs its own and no other, and so does each client. replicas.toml is for
    all of them, and clients.toml for replicas alone.

    Examples:
      epaxos keys init -c epaxos.toml
    """
    config = load(config_file)
    directory = _directory(config)
    for name in init_keys(config, directory):
        click.echo(f"{directory / name}.key")
    if not config.security.keys:
        click.echo(f'set in {config.source}, in its table [security]:\n\nkeys = "{directory.name}"', err=True)


@keys.command(cls=Page)
@click.argument("name")
@_config_option
@click.option(
    "--role",
    type=click.Choice(["read", "write", "admin", "replica"]),
    required=True,
    help="What it may do; a replica takes part, once it is a member.",
)
@click.option(
    "--prefix", "prefixes", metavar="TEXT", multiple=True, help="Only keys that begin so; repeatable."
)
@click.option("--token", is_flag=True, help="Make a bearer token for HTTP in place of a key, and print it.")
@click.option(
    "--password",
    is_flag=True,
    help="Ask for a password, for the Redis door, in place of a key; hashed by Argon2id.",
)
@click.option(
    "--for",
    "lasts",
    callback=positive_duration,
    metavar="DURATION",
    help="When its rights end.  [default: never]",
)
def add(
    name: str,
    config_file: str | None,
    role: str,
    prefixes: tuple[str, ...],
    lasts: float | None,
    *,
    token: bool,
    password: bool,
) -> None:
    """Put a client called NAME on the list, or a replica that is to join, and make its key.

    Replicas let it in once they have read the list: when they start, and on SIGHUP.

    Examples:
      epaxos keys add web --role write --prefix web/
      epaxos keys add prometheus --role read --token
      epaxos keys add delta --role replica --for 2h
    """
    directory = _directory(load(config_file))
    if token and password:
        raise click.UsageError("--token and --password: one of them at most")
    if role == "replica":
        if token or password or prefixes:
            raise click.UsageError("--token, --password, --prefix: not of a replica")
        add_replica(directory, name, lasts)
        click.echo(f"{directory / name}.key")
        return
    client = Listing(role, prefixes, _ask_password() if password else "")
    made = add_client(directory, name, client, token=token, lasts=lasts)
    click.echo(made or (f"{name} is on the list" if password else f"{directory / name}.key"))


@keys.command("remove", cls=Page)
@click.argument("name")
@_config_option
def remove_(name: str, config_file: str | None) -> None:
    """Take a client or replica from the lists, and remove its key file here.

    Replicas take its rights, on connections that stand too, once they have read the lists again: on SIGHUP.

    Examples:
      epaxos keys remove web
    """
    remove(_directory(load(config_file)), name)


@keys.command("list", cls=Page)
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(config_file: str | None, *, as_json: bool) -> None:
    """Show who is on the lists, a line each: name, role, prefixes, public key, and until when; no secrets.

    Examples:
      epaxos keys list
    """
    rows = listed(_directory(load(config_file)))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        prefixes = ", ".join(map(json.dumps, row["prefixes"])) or "all keys"
        until = f"  until {row['until']}" if row["until"] else ""
        click.echo(f"{row['name']:<12} {row['role']:<8} {prefixes:<16} {', '.join(row['with'])}{until}")


def _directory(config: Config) -> Path:
    if config.security.keys:
        return Path(config.security.keys)
    return (Path() if config.source == "defaults" else Path(config.source).parent).absolute() / DIRECTORY


def _ask_password() -> str:
    password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    try:
        from epaxos.security.passwords import hash_password  # noqa: PLC0415 - of the extra `server`, and needed here alone
    except ImportError as error:
        raise ConfigError("--password needs the extra `server`: pip install 'epaxos[server]'") from error
    return hash_password(password)
