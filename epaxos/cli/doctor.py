"""`epaxos doctor`: look for what is wrong, from this machine."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import click

from epaxos.cli import examination
from epaxos.cli.examination import Finding, State
from epaxos.cli.failures import Exit
from epaxos.cli.options import config_option, find_replica, load, timeout_option
from epaxos.cli.pages import Page
from epaxos.cli.survey import Survey, survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import REPLICA_VARIABLE, Config, ReplicaAddress

_COLOURS: Final = {
    State.OK: "green",
    State.WARNING: "yellow",
    State.FAILED: "red",
    State.SKIPPED: "bright_black",
}


@click.command(cls=Page)
@config_option
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    help=f"Which replica this machine runs.  [default: ${REPLICA_VARIABLE}, or all whose host is this machine]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show also what is well.")
@timeout_option("A replica that does not answer within this long is unreachable.")
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    config_file: str | None,
    name: str | None,
    as_json: bool,
    verbose: bool,
    timeout: float | None,
) -> None:
    """Look for what is wrong with a cluster, from this machine, and say what to do.

    It changes nothing. To see what a replica sees, run it on that replica's machine, as the user who runs it.

    What it checks:
      dns          every host resolves, quickly, and to what others can reach
      ports        the three ports of every replica can be reached from here
      quorum       enough replicas answer and hear one another
      versions     all run the same version, this command too
      levels       no newer level is known to all and not used (epaxos upgrade)
      clocks       those of the replicas agree with the one here
      descriptors  the limit here, and what replicas have in use
      disk, sync   of the replicas of this machine: the place, its room, and
                   how long it takes to make 4 KiB durable

    With --json: an object with "cluster", "well" (whether nothing failed) and "findings", a list of objects with
    "check", "subject", "state" (ok, warning, failed, skipped), "found" and "advice".

    Exit codes:
      0  nothing failed; there may be warnings
      1  something failed
      2  wrong command line or configuration

    Examples:
      epaxos doctor -c conf/local.toml
      epaxos doctor -c /etc/epaxos.toml -n bravo --verbose
      epaxos doctor --json | jq -r '.findings[] | select(.state != "ok")'
    """
    config = load(config_file)
    chosen = name or os.environ.get(REPLICA_VARIABLE)
    findings = list(
        examine(config, find_replica(config, chosen) if chosen else None, timeout or config.client.timeout)
    )
    well = all(finding.state != State.FAILED for finding in findings)
    if as_json:
        shown = [finding._asdict() for finding in findings]
        click.echo(json.dumps({"cluster": config.name, "well": well, "findings": shown}, indent=2))
    else:
        _print(findings, verbose=verbose)
    ctx.exit(Exit.DONE if well else Exit.FAILED)


def examine(config: Config, chosen: ReplicaAddress | None, timeout: float) -> Iterator[Finding]:
    """All checks; of the replica `chosen` as one of this machine, else of all whose host is this machine."""
    found = asyncio.run(_ask(config, timeout))
    config = found.members_in(config)
    if chosen is not None and chosen not in config.replicas:
        config = replace(config, replicas=(*config.replicas, chosen))  # it is to join, or has gone
    hosts = [replica.host for replica in config.replicas]
    hosts += [replica.listen for replica in config.replicas if replica.listen is not None]
    names = examination.look_up(list(dict.fromkeys(hosts)))
    here = (
        [chosen]
        if chosen is not None
        else [
            replica
            for replica in config.replicas
            if any(map(examination.is_here, names[replica.host].addresses))
        ]
    )
    yield from examination.examine_names(config, names, here)
    silent = {replica["name"]: replica["error"] for replica in found.replicas if not replica["reachable"]}
    yield from examination.examine_ports(config, names, silent, here)
    yield from examination.examine_quorum(found)
    yield from examination.examine_versions(found)
    pages = examination.fetch_pages(config, names)
    yield from examination.examine_clocks(pages)
    yield from examination.examine_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1], pages)
    if not here:
        yield Finding(
            "disk", "", State.SKIPPED, "no replica's host is this machine; --name says which it runs"
        )
    for replica in here:
        yield from examination.examine_disk(config, replica)


async def _ask(config: Config, limit: float) -> Survey:
    async with AsyncClient(config=config) as client:
        return await survey(client, config, limit, digest=False)


def _print(findings: Sequence[Finding], *, verbose: bool) -> None:
    for finding in findings:
        if finding.state == State.OK and not verbose:
            continue
        state = click.style(f"{finding.state:8}", fg=_COLOURS[finding.state])
        subject = f"{finding.subject}: " if finding.subject else ""
        click.echo(f"{state} {finding.check:12} {subject}{finding.found}")
        if finding.advice:
            click.echo(f"{'':21} -> {finding.advice}")
    counts = {state: sum(finding.state == state for finding in findings) for state in State}
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items() if count))
