"""The end of a run: everything pending has finished, and all replicas hold the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from epaxos.protocol.ids import InstanceId
from epaxos.simulation.checkers.reference import ENDS, State
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.replica import Replica
from epaxos.statemachine import intervals
from epaxos.statemachine.expiry import Expiring
from epaxos.statemachine.operations import RECORDS


def settled(replicas: Sequence[Replica]) -> bool:
    """Whether everything that any of these replicas ever heard of is decided and executed on all of them.

    Where there is a leader, also whether all follow the same. A slot that was decided under the ballot before counts as
    seen no more at who comes back in the middle of a campaign, until that has found it again.
    """
    # A frame that comes again when its first sending has been answered elsewhere is proposed like any other.
    if any(replica.disk.busy or replica.frontdoor.to_propose for replica in replicas):
        return False
    statuses = [replica.core.status() for replica in replicas]
    first = statuses[0]
    if any(replica.epoch != replicas[0].epoch or replica.behind for replica in replicas):
        return False
    if first.ballot and first.leader is None:
        return False
    return all(
        status.committed == status.executed == status.seen == first.seen
        and not status.pending
        and not status.in_flight
        and (status.leader, status.ballot) == (first.leader, first.ballot)
        for status in statuses
    )


def have_followed(voter: Replica, observer: Replica) -> bool:
    """Whether an observer has all that a replica has which votes, and knows that it is so."""
    if observer.epoch != voter.epoch or observer.disk.busy:
        return False
    return observer.as_of is not None and observer.core.status().executed == voter.core.status().executed


def describe_unsettled(replicas: Iterable[Replica]) -> str:
    """How far each replica is, for a run that did not finish."""
    return "\n".join(
        f"  replica {replica.row}, epoch {replica.epoch}: {replica.core.status()}" for replica in replicas
    )


def stuck(replicas: Iterable[Replica]) -> tuple[InstanceId, ...]:
    """The instances that others wait for: the first one of each row that some replica has not decided or executed."""
    places = set()
    for replica in replicas:
        status = replica.core.status()
        for row, columns in enumerate(zip(status.committed, status.executed, status.seen, strict=True)):
            committed, executed, seen = columns
            if committed < seen:
                places.add(InstanceId(row, committed + 1))
            elif executed < committed:
                places.add(InstanceId(row, executed + 1))
    return tuple(sorted(places))


def check_same_state(
    replicas: Sequence[Replica],
    state: State,
    records: Collection[bytes],
    executed: Iterable[tuple[int, int]],
) -> None:
    """Check that replicas hold what the plain store holds, and have executed the same request numbers.

    `records` are the keys of the records of transactions, which only their digests compare.

    Raises:
        ViolationError: one of them does not.
    """
    numbers = _as_intervals(executed)
    for replica in replicas:
        source = replica.machine.digest_source()
        data = {key: value for key, value in source.data.items() if not key.startswith(RECORDS)}
        ends = {
            ENDS + key: b"%d %d %d %d" % (value.ttl, *value.generation)
            for key, value in data.items()
            if isinstance(value, Expiring)
        }
        if data | ends != state:
            text = f"replica {replica.row} holds {data | ends}, the plain store {state}"
            raise ViolationError("same state", text)
        if source.data.keys() - data.keys() != set(records):
            text = f"replica {replica.row} has records {source.data.keys() - data.keys()}, there are {set(records)}"
            raise ViolationError("same state", text)
        if source.executed != numbers:
            text = f"replica {replica.row} has executed {source.executed}, of all were executed {numbers}"
            raise ViolationError("same state", text)
        if replica.frontdoor.waiting:
            text = f"replica {replica.row} keeps {replica.frontdoor.waiting} frames waiting for ever"
            raise ViolationError("no forgotten frame", text)


def check_same_digest(replicas: Sequence[Replica]) -> None:
    """Check that the digests of replicas which hold the same are the same.

    Raises:
        ViolationError: they are not.
    """
    digests = {replica.row: replica.machine.digest_source().hexdigest() for replica in replicas}
    if len(set(digests.values())) > 1:
        raise ViolationError("same state", f"equal states have different digests: {digests}")


def _as_intervals(executed: Iterable[tuple[int, int]]) -> Mapping[int, tuple[int, ...]]:
    """Request numbers by client, in the form in which sessions keep them."""
    bounds: dict[int, list[int]] = {}
    for client, number in sorted(executed):
        intervals.add(bounds.setdefault(client, []), number, number + 1)
    return {client: tuple(found) for client, found in bounds.items()}
