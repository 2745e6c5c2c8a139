"""What several sub-commands share: options, and the configuration they name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from epaxos.cli.failures import check_installed
from epaxos.cli.logs import FORMATS
from epaxos.cli.streams import write_text
from epaxos.config import Config, ReplicaAddress, load_config, parse_duration
from epaxos.config.loading import LONGEST_FILE, find_file, read_file
from epaxos.errors import ConfigError

if TYPE_CHECKING:
    from epaxos.groups.map import Groups

Function = TypeVar("Function", bound=Callable[..., Any])

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

STDOUT: Final = "-"
"""The name of a file that means standard output."""


def duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """A click callback: the seconds that an option says."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(
            f"found {text!r}; allowed: a duration like 500ms, 10s or 1m30s; a number alone is seconds"
        ) from error


def positive_duration(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """The same where 0 makes no sense."""
    seconds = duration(ctx, option, text)
    if seconds == 0:
        raise click.BadParameter(f"found {text!r}; allowed: a duration above 0")
    return seconds


def writable(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """A click callback: a file that can be written, as is better known before the run than after it."""
    if name is None or name == STDOUT:
        return name
    try:
        with Path(name).open("a", encoding="utf-8"):
            return name
    except OSError as error:
        raise click.BadParameter(f"cannot write {name!r}: {error.strerror}") from error


def fleet_of(_: click.Context, __: click.Parameter, address: str | None) -> str | None:
    """A click callback: the address of a scheduler, where what it takes is installed."""
    if address is not None:
        check_installed("--scheduler", "fleet", ("distributed",))
    return address


scheduler_option: Final = click.option(
    "--scheduler",
    callback=fleet_of,
    metavar="ADDRESS",
    help="Run seeds on the workers of this scheduler of Dask, like tcp://host:8786.",
)


def write_json(report: Mapping[str, Any], name: str) -> None:
    """Write a report to a file, or to stdout."""
    write_text(json.dumps(report, indent=2) + "\n", name)


_configured: Final = click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    help="The cluster's configuration.  [default: $EPAXOS_CONFIG, ./epaxos.toml, ~/.epaxos.toml or "
    "/etc/epaxos.toml; else three replicas on this machine]",
)


def _use_key(_: click.Context, __: click.Parameter, file: str | None) -> None:
    """A click callback: what is configured by a variable reaches all that this command starts."""
    if file is not None:
        os.environ[KEY_VARIABLE] = file


KEY_VARIABLE: Final = "EPAXOS_SECURITY_KEY"

key_option: Final = click.option(
    "--key",
    "key_file",
    metavar="FILE",
    expose_value=False,
    callback=_use_key,
    help=f"The key to log in with.  [default: ${KEY_VARIABLE} or security.key]",
)


def config_option(command: Function) -> Function:
    """--config, and the --key with which to log in at what it describes."""
    return _configured(key_option(command))


uptime_option: Final = click.option(
    "--uptime",
    callback=duration,
    metavar="DURATION",
    help="Stop after this long, like 30s; 0s means never.  [default: the key uptime]",
)

log_level_option: Final = click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    help="The least important messages that are logged.  [default: the key log_level]",
)


log_format_option: Final = click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="How messages are logged: as lines of text, or as a JSON object a line.",
)


def timeout_option(what: str, default: str = "the key client.timeout") -> Callable[[Function], Function]:
    """--timeout, with what ends after it."""
    return click.option(
        "--timeout",
        callback=positive_duration,
        metavar="DURATION",
        help=f"{what}  [default: {default}]",
    )


def load(config_file: str | None) -> Config:
    """The configuration of the cluster.

    Raises:
        ConfigError: there is something wrong with it, or it is one of groups.
    """
    config = load_any(config_file)
    if isinstance(config, Config):
        return config
    files = ", ".join(f"{group.config.source} ({group.name})" for group in config.groups)
    raise ConfigError(
        f"{config.source}: found groups; allowed: the file of one cluster, like those of its groups: {files}"
    )


def load_any(config_file: str | None, environ: Mapping[str, str] = os.environ) -> Config | Groups:
    """The configuration of the cluster, or of several where the file is one of groups.

    Raises:
        ConfigError: there is something wrong with it.
    """
    file = config_file if config_file is not None else find_file(environ)
    if file is not None and _names_groups(file) and "groups" in read_file(file):
        from epaxos.groups.map import load_groups  # noqa: PLC0415 - one cluster shall not pay for it

        return load_groups(file, environ)
    return load_config(config_file, environ)


def clusters_of(config: Config | Groups) -> dict[str, Config]:
    """The clusters that it describes, each by the name of its group; "" of one alone."""
    return (
        {"": config} if isinstance(config, Config) else {group.name: group.config for group in config.groups}
    )


def _names_groups(file: str) -> bool:
    """Whether the word stands in a file anywhere, which is quicker known than what it means."""
    try:
        with Path(file).open("rb") as opened:
            return b"groups" in opened.read(LONGEST_FILE)
    except (OSError, ValueError):
        return False


def find_replica(config: Config, name: str) -> ReplicaAddress:
    """The replica, or observer, called `name`.

    Raises:
        ConfigError: there is none; says which there are.
    """
    for replica in config.everybody:
        if replica.name == name:
            return replica
    raise ConfigError(f"{config.source}: no replica has the name {name!r}; allowed: {names_of(config)}")


def names_of(config: Config) -> str:
    """The names of all replicas, and of the observers."""
    return ", ".join(replica.name for replica in config.everybody)
