"""`epaxos upgrade`: the last step of an upgrade."""

from __future__ import annotations

import click

from epaxos.cli.changing import Asked, change
from epaxos.cli.options import config_option, timeout_option
from epaxos.cli.pages import Page


@click.command(cls=Page)
@click.option("--check", is_flag=True, help="Say whether it may be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@timeout_option("Give up waiting after this long; it may still happen.", "30s")
@click.pass_context
def upgrade(
    ctx: click.Context, *, check: bool, as_json: bool, config_file: str | None, timeout: float | None
) -> None:
    """Raise the level of a cluster, once all replicas run a version that knows a higher one.

    The level is that of what replicas send one another and keep. Versions of two neighbouring levels serve together, at
    the lower one, so replicas are upgraded one after the other, and may go back. After this command they may not: what
    is new is used, and a version that does not know the level is refused by its data and its peers. It begins another
    epoch; commands of clients wait for a few round trips, and none fails.

    With --json: an object with "outcome", "epoch" and "text".

    Exit codes:
      0  done; with --check: it would be; or there is nothing newer
      1  another change came first; nothing was changed by this one
      2  wrong command line or configuration, or refused: a line says which
         replica is to be upgraded or started first
      3  no answer in time, or Ctrl-C: it may still happen (status tells)

    Examples:
      epaxos upgrade --check -c conf/local.toml
      epaxos upgrade -c conf/local.toml
    """
    asked = Asked(as_json=as_json, dry=check, expected=None, config_file=config_file, timeout=timeout)
    change(ctx, asked, upgrade=True)
