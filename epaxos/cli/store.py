"""`epaxos get`, `put`, `delete`, `cas`, `incr`, `append`: one command on one key."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from epaxos.cli.failures import Exit, complain
from epaxos.cli.options import config_option, find_replica, load_any, positive_duration, timeout_option
from epaxos.cli.pages import Page
from epaxos.cli.values import STDIN, key_bytes, print_value, value_bytes
from epaxos.client.blocking import Client
from epaxos.client.reading import Reads
from epaxos.config import Config
from epaxos.config.durations import format_duration

if TYPE_CHECKING:
    from epaxos.groups.client import GroupClient

_NOT_FOUND: Final = "there is no value under this key"

_hex_option: Final = click.option(
    "--hex",
    "hexadecimal",
    is_flag=True,
    help="Values are given and printed as hexadecimal digits, like 00ff.",
)

_raw_option: Final = click.option(
    "--raw",
    is_flag=True,
    help="Write the bytes of a value as they are to a terminal too, with no line's end after them.",
)


def reads_option(*allowed: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """How to read, of some ways; see docs/reads.md."""
    text = {
        "log": "ordered among all commands",
        "quorum": "as good, without a place in the log",
        "local": "what one replica has now",
        "observer": "what one that has no vote has now",
    }
    return click.option(
        "--reads",
        type=click.Choice(allowed),
        default=allowed[0],
        show_default=True,
        help=f"How to read: {'; '.join(f'{name}, {text[name]}' for name in allowed)}.",
    )


@dataclass(frozen=True, slots=True)
class Target:
    """A key, the cluster that has it, and a client to ask for it."""

    key: bytes
    config: Config
    client: Client | GroupClient

    def value(self, text: str, name: str, *, hexadecimal: bool) -> bytes:
        """The value that the argument called `name` says."""
        return value_bytes(text, name, hexadecimal=hexadecimal, longest=self.config.max_value)


def on_key(function: Callable[..., None], name: str = "KEY") -> Callable[..., None]:
    """Give a command that has an argument KEY the options that say whom to ask; call it with a `Target`.

    The argument may have another name.
    """

    @click.option("--hex-key", is_flag=True, help=f"{name} is given as hexadecimal digits.")
    @config_option
    @click.option("--replica", metavar="NAME", help="Ask this replica first.  [default: any]")
    @timeout_option("Give up after this long, all tries together, like 500ms.")
    @functools.wraps(function)
    def command(
        key: str,
        *,
        hex_key: bool,
        config_file: str | None,
        replica: str | None,
        timeout: float | None,
        **given: Any,
    ) -> None:
        named = key_bytes(key, name, hexadecimal=hex_key)
        config = load_any(config_file)
        if not isinstance(config, Config):
            if replica is not None:
                raise click.UsageError("--replica NAME needs a file of one cluster, not of groups")
            from epaxos.groups.client import GroupClient  # noqa: PLC0415 - one cluster shall not pay for it

            owner = config.of(named).config
            with GroupClient(config, timeout=timeout or owner.client.timeout) as groups:
                function(Target(named, owner, groups), **given)
            return
        if replica is not None:
            find_replica(config, replica)
        with Client(config=config, replica=replica, timeout=timeout) as client:
            function(Target(named, config, client), **given)

    return command


def _end_failed(text: str) -> NoReturn:
    """The command was carried out, and came to something that a script wants to tell from success."""
    context = click.get_current_context()
    complain(text, context.command_path)
    context.exit(Exit.FAILED)


@click.command(cls=Page)
@click.argument("key")
@reads_option("log", "quorum", "local", "observer")
@_hex_option
@_raw_option
@on_key
def get(target: Target, *, reads: Reads, hexadecimal: bool, raw: bool) -> None:
    r"""Print the value of KEY.

    It sees every write that was answered before, unless it is read locally, or at an observer: then it is what one
    replica has, and stderr says by how much that knows to be behind, or how old it is at most.

    To a file or a pipe the bytes of the value are written as they are, and nothing else. To a terminal a
    line's end is added, and control characters are shown as in \x1b.

    Exit codes:
      0  done
      1  there is no value under KEY
      2  wrong command line or configuration, or the command is refused
      3  no answer

    Examples:
      epaxos get greeting
      epaxos get picture > picture.png
      epaxos get -c conf/local.toml --replica bravo --timeout 500ms greeting
      epaxos get --reads quorum greeting
      epaxos get --reads observer greeting
      epaxos get --hex-key --hex 00ff
    """
    looks = reads in ("local", "observer")
    value = _look(target, reads) if looks else target.client.get(target.key, reads=reads)
    if value is None:
        _end_failed(_NOT_FOUND)
    print_value(value, raw=raw, hexadecimal=hexadecimal)


def _look(target: Target, reads: Reads) -> bytes | None:
    """The value that a replica has; it is told if others may have a later one."""
    if reads == "observer":
        found = target.client.look(target.key, reads="observer")
        if found.age != 0:
            age = "of an age that it does not know" if found.age is None else f"{found.age:.2f} s old at most"
            complain(f"read at an observer, {age}", click.get_current_context().command_path)
        return found.value
    found = target.client.look(target.key)
    if found.behind != 0:
        behind = (
            "hears no quorum" if found.behind is None else f"has not executed {found.behind} it has heard of"
        )
        complain(f"read locally, at a replica that {behind}", click.get_current_context().command_path)
    return found.value


@click.command(cls=Page)
@click.argument("key")
@click.argument("value")
@click.option("--previous", is_flag=True, help="Print the value before this one, if there was one.")
@click.option(
    "--ttl",
    callback=positive_duration,
    metavar="DURATION",
    help="Let the value end after so long, like 30m, or soon after.  [default: it stays]",
)
@click.option("--keep-ttl", is_flag=True, help="Let it end when the value before it would have, if it would.")
@_hex_option
@_raw_option
@on_key
def put(
    target: Target,
    value: str,
    *,
    previous: bool,
    ttl: float | None,
    keep_ttl: bool,
    hexadecimal: bool,
    raw: bool,
) -> None:
    """Set the value of KEY to VALUE; - as VALUE stands for all of standard input.

    With --previous the value before is printed as by epaxos get; where there was none, stderr says so.

    Exit codes:
      0  done
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos put greeting hello
      epaxos put picture - < picture.png
      printf %s hello | epaxos put greeting -
      epaxos put greeting --previous hallo
      epaxos put session/42 alice --ttl 30m
      epaxos put -c conf/local.toml --hex counter 3432
      epaxos put -- key -value-that-begins-with-a-dash
    """
    if (ttl is not None) + keep_ttl + previous > 1:
        raise click.UsageError("--ttl, --keep-ttl and --previous cannot be given together")
    new = target.value(value, "VALUE", hexadecimal=hexadecimal)
    if not previous:
        target.client.put(target.key, new, ttl=ttl, keep_ttl=keep_ttl)
        return
    before = target.client.write_read(target.key, new)
    if before is None:
        complain("done; there was no value before", click.get_current_context().command_path)
    else:
        print_value(before, raw=raw, hexadecimal=hexadecimal)


@click.command(cls=Page)
@click.argument("key")
@reads_option("log", "quorum", "local", "observer")
@on_key
def exists(target: Target, *, reads: Reads) -> None:
    """Tell by the exit code whether KEY has a value, without fetching it.

    Exit codes:
      0  it has one
      1  it has none
      2  wrong command line or configuration, or the command is refused
      3  no answer

    Examples:
      epaxos exists lock || echo free
    """
    if not target.client.exists(target.key, reads=reads):
        _end_failed(_NOT_FOUND)


@click.command(cls=Page)
@click.argument("key")
@on_key
def delete(target: Target) -> None:
    """Remove KEY and its value.

    Exit codes:
      0  done
      1  there was no value under KEY
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos delete greeting
      epaxos delete -c conf/local.toml --hex-key 00ff
    """
    if not target.client.delete(target.key):
        _end_failed(_NOT_FOUND)


@click.command(cls=Page)
@click.argument("key")
@click.argument("values", nargs=-1, metavar="[EXPECTED] [NEW]")
@click.option("--absent", is_flag=True, help="Expect that there is no value; EXPECTED is left out.")
@click.option(
    "--delete", "remove", is_flag=True, help="Remove the key if its value is EXPECTED; NEW is left out."
)
@_hex_option
@_raw_option
@on_key
def cas(
    target: Target, values: tuple[str, ...], *, absent: bool, remove: bool, hexadecimal: bool, raw: bool
) -> None:
    """Compare and swap: set the value of KEY to NEW if it is EXPECTED now, in one step.

    Nothing is printed if it was. Otherwise nothing is changed, and the value found is printed as by
    epaxos get; where there is none, stderr says so. One of EXPECTED and NEW may be -, for all of standard
    input.

    Exit codes:
      0  done: the value was EXPECTED and is NEW now, or the key is gone
      1  the value is not EXPECTED
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos cas light green red
      epaxos cas --absent lock "$HOSTNAME"
      epaxos cas --delete lock "$HOSTNAME"
      epaxos cas -c conf/local.toml --hex flags 00 01
    """
    expected, new = _cas_values(target, values, absent=absent, remove=remove, hexadecimal=hexadecimal)
    result = target.client.cas(target.key, expected, new)
    if result.swapped:
        return
    if result.current is None:
        _end_failed(f"not the expected value: {_NOT_FOUND}")
    print_value(result.current, raw=raw, hexadecimal=hexadecimal)
    _end_failed("not the expected value: another one was found")


def _cas_values(
    target: Target, values: tuple[str, ...], *, absent: bool, remove: bool, hexadecimal: bool
) -> tuple[bytes | None, bytes | None]:
    """The expected value and the new one, None for none."""
    if absent and remove:
        raise click.UsageError("--absent and --delete leave nothing to do; allowed: one of them")
    names = ("NEW",) if absent else ("EXPECTED",) if remove else ("EXPECTED", "NEW")
    if len(values) != len(names):
        usage = "KEY EXPECTED NEW, --absent KEY NEW, or --delete KEY EXPECTED"
        if absent or remove:
            usage = f"KEY {names[0]} with {'--absent' if absent else '--delete'}"
        raise click.UsageError(f"found {len(values)} arguments after KEY; allowed: {usage}")
    if values.count(STDIN) > 1:
        raise click.UsageError("standard input can be one of EXPECTED and NEW, not both")
    given = [
        target.value(text, name, hexadecimal=hexadecimal) for name, text in zip(names, values, strict=True)
    ]
    return (None if absent else given[0]), (None if remove else given[-1])


# So that -5 is an amount, and no option. A misspelt option is then taken for an amount that is no number.
@click.command(cls=Page, context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("amount", type=int, default=1)
@on_key
def incr(target: Target, amount: int) -> None:
    """Add AMOUNT (1 if it is left out; it may be negative) to the number under KEY and print the sum.

    A number is a value of decimal digits, from -2^63 to 2^63 - 1; no value counts as 0.

    Exit codes:
      0  done
      1  nothing changed: the value is no number, or the sum would be out of range
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos incr visitors
      epaxos incr stock -5
      epaxos incr -c conf/local.toml visitors 100
    """
    click.echo(target.client.increment(target.key, amount))


@click.command(cls=Page)
@click.argument("key")
@click.argument("suffix")
@_hex_option
@on_key
def append(target: Target, suffix: str, *, hexadecimal: bool) -> None:
    """Add SUFFIX to the end of the value of KEY and print the new length in bytes.

    No value counts as an empty one. - as SUFFIX stands for all of standard input.

    Exit codes:
      0  done
      1  nothing changed: the value would be longer than max_value allows
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos append log "one more line"
      date | epaxos append log -
      epaxos append -c conf/local.toml --hex log 0a
    """
    click.echo(target.client.append(target.key, target.value(suffix, "SUFFIX", hexadecimal=hexadecimal)))


@click.command(cls=Page)
@click.argument("key")
@click.argument("ttl", callback=positive_duration)
@on_key
def expire(target: Target, ttl: float) -> None:
    """Let the value of KEY end after TTL, a duration like 30m, or soon after.

    Another epaxos put takes the end away, unless it says --ttl or --keep-ttl.

    Exit codes:
      0  done
      1  there is no value under KEY
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos expire session/42 30m
    """
    if not target.client.expire(target.key, ttl):
        _end_failed(_NOT_FOUND)


@click.command(cls=Page)
@click.argument("key")
@on_key
def persist(target: Target) -> None:
    """Let the value of KEY stay, which would have ended some time.

    Exit codes:
      0  done
      1  there is no value under KEY that would have ended
      2  wrong command line or configuration, or the command is refused
      3  no answer; the message says whether it may have been done nevertheless

    Examples:
      epaxos persist session/42
    """
    if not target.client.persist(target.key):
        _end_failed("there is no value under this key that would have ended")


@click.command(cls=Page)
@click.argument("key")
@on_key
def ttl(target: Target) -> None:
    """Print how long the value of KEY lasts, as far as the replica knows that is asked.

    Exit codes:
      0  done
      1  there is no value under KEY that ends
      2  wrong command line or configuration, or the command is refused
      3  no answer

    Examples:
      epaxos ttl session/42
    """
    left = target.client.ttl(target.key)
    if left is None:
        _end_failed("there is no value under this key that ends")
    click.echo(format_duration(round(left, 3)))
