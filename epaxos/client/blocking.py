"""The blocking client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from threading import RLock
from time import monotonic
from typing import Self, overload
from weakref import finalize

from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op, T, as_operations
from epaxos.client.drivers.base import RANDOM
from epaxos.client.drivers.calls import Ask, Bulk, Command, change_of, check_fits
from epaxos.client.drivers.threads import ThreadsDriver
from epaxos.client.methods import KeyMethods
from epaxos.client.options import client_options
from epaxos.client.reading import Reads, is_observed, is_reading, together
from epaxos.client.results import Result
from epaxos.client.status import Change, MemberChange, Status
from epaxos.client.tracing import span
from epaxos.client.watch import Watch
from epaxos.config import Config
from epaxos.watching.position import Position


class Client(KeyMethods[V]):
    """A blocking client of a cluster; threads may share it.

    Replicas are given as `endpoints` ("host:port", the preferred one first) or by a `config`; without either,
    the configuration file is looked for as by the `epaxos` command. `replica` names the one to prefer;
    `timeout` is how long a call may take, in seconds; `tries` how many times a command without answer may
    be sent; `key` is the file of the key to log in with, if not that of the configuration. Every method takes
    a `timeout` of its own. Keys are bytes, and so are values unless a `codec` says how others are written:
    `Client(codec=JSON)`. `reads` is how its get, exists, scan and count read unless they say so (docs/reads.md).

    Raises for wrong arguments `TypeError` or `ValueError`, and `ConfigError` for endpoints, names and files.
    KeyMethods raise `TypeError` for an argument of a wrong type, and these `ClientError`s:

        Refused          the command is not allowed (to this client), or the replica belongs to another cluster
        Busy             no replica had room for the command
        NoAnswer         no replica answered in time, none could be reached, or the client itself failed
        Closed           the client is closed
        OperationFailed  the command executed, and failed as its operation defines
        Undecodable      the command executed, and returned what the codec cannot read
        Untold           the command executed, but its result did not come, or was lost and is not kept

    Their `may_have_executed` says whether the command may have taken effect, or still may. A command is sent
    again only if its answer is missing, and executes once however often it is sent.

    Signal handlers and finalizers may call too; on top of a call of the same client, their calls have a session and
    connections of their own. After a fork, a client belongs to the parent alone: children make their own.
    """

    @overload
    def __init__(
        self: Client[bytes],
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        key: str | None = None,
        reads: Reads = "log",
        codec: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        key: str | None = None,
        reads: Reads = "log",
        codec: Codec[V],
    ) -> None: ...
    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        key: str | None = None,
        reads: Reads = "log",
        codec: Codec[V] | None = None,
    ) -> None:
        super().__init__(codec, reads)
        self._codec = codec
        self._options = client_options(endpoints, config, replica, timeout, tries, RANDOM, key)
        self._driver = ThreadsDriver(self._options)
        self._reader: ThreadsDriver | None = None
        self._observer: ThreadsDriver | None = None
        self._making = RLock()
        self._is_closed = False
        finalize(self, self._driver.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({', '.join(self._options.endpoints)})"

    def close(self) -> None:
        """Close the connections; calls under way in other threads end with `Closed`.

        A last frame tells a replica, without waiting for it, that results need not be kept for this client any more.
        """
        with self._making:
            self._is_closed = True
        for reader in (self._reader, self._observer):
            if reader is not None:
                reader.close()
        self._driver.close()

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of the replicas, as far as it knows; endpoints, where it was given no more than those."""
        return self._options.directory.replicas

    @property
    def timeout(self) -> float:
        """How long a call may take that gives no time of its own, in seconds."""
        return self._options.timeout

    @property
    def retries(self) -> Mapping[str, int]:
        """How many commands had to be sent again so far, by the reason.

        `silent`: the replica had not answered in its share of the time; `lost`: the connection was; `busy`: the
        replica had no room.
        """
        counts = Counter(self._driver.retries)
        for reader in (self._reader, self._observer):
            counts.update({} if reader is None else reader.retries)
        return dict(counts)

    def pause(self, milliseconds: int, *, timeout: float | None = None) -> None:
        """Make every replica sleep when it executes this; for tests."""
        self.execute(Op.pause(milliseconds), timeout=timeout)

    def null(self, *, timeout: float | None = None) -> None:
        """Do nothing, by way of consensus."""
        self.execute(Op.null(), timeout=timeout)

    def _cluster_of(self, key: bytes) -> Client[V]:  # noqa: ARG002 - there is one
        return self

    def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]:
        return self.execute(Op.multi(operations), timeout=timeout)

    def bulk(
        self, operations: Iterable[Op[T]], *, reads: Reads = "log", timeout: float | None = None
    ) -> list[Result[T]]:
        """Send many commands in one frame; each stands for itself, and they may execute in part.

        Returns what became of each: done, or an error whose `may_have_executed` tells what may be done from what is
        surely not. Very many commands (more than the cluster's `max_batch`, or a megabyte) take several frames, of
        which some are under way at a time; what has had no turn within the `timeout` is not sent.

        With `reads` all must only read, each by itself, and are read in that way.
        """
        listed, only = together(as_operations(operations), reads)
        driver = self._reading(listed[0]) if only else self._driver
        call = Bulk(listed, self._options, monotonic(), timeout)
        with span(call):
            if listed:
                driver.run(call)
            return call.result()

    def check(self, operation: Op) -> None:
        """See whether a command fits into a frame.

        Raises:
            Refused: it does not.
        """
        check_fits(operation, self._options)

    def _reading(self, operation: Op) -> ThreadsDriver:
        """What runs the reads that are none of the log, in no session: made with the first of its kind."""
        with self._making:
            if is_observed(operation):
                if self._observer is None and not self._is_closed:
                    self._observer = ThreadsDriver(self._options.at_observers, remembered=False)
                    finalize(self, self._observer.close)
                return self._observer or self._driver
            if self._reader is None and not self._is_closed:
                self._reader = ThreadsDriver(self._options, remembered=False)
                finalize(self, self._reader.close)
        return self._reader or self._driver

    def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command made before; returns what the method of its name does."""
        driver = self._reading(operation) if is_reading(operation) else self._driver
        call = Command(operation, self._options, monotonic(), timeout)
        with span(call):
            driver.run(call)
            return call.result()

    def ttl(self, key: bytes, *, timeout: float | None = None) -> float | None:
        """Seconds until the value of a key ends, as far as the replica in use knows; 0 if that is due.

        None if there is no value, or it does not end. Other replicas may have begun to count a little earlier or later,
        and what was asked for last may not have executed at this one.
        """
        call = Ask(None, self._options, monotonic(), timeout, {"left": Op.get(key).key})
        with span(call):
            self._driver.run(call)
            return call.left()

    def status(
        self,
        *,
        digest: bool = False,
        transactions: bool = False,
        replica: str | None = None,
        timeout: float | None = None,
    ) -> Status:
        """The status of the replica of that name, or of the one in use.

        `digest` asks for a digest of its state, which takes the replica a while if it holds much; `transactions` for
        the first of those across groups of which it has a record, among `others`.
        """
        index = self._options.index_of(replica)
        call = Ask(
            index, self._options, monotonic(), timeout, {"digest": digest, "transactions": transactions}
        )
        with span(call):
            self._driver.run(call)
            return call.status()

    def watch(
        self,
        prefix: bytes = b"",
        *,
        since: Position | str | None = None,
        state: bool = False,
        patience: float | None = None,
    ) -> Watch[V]:
        """Follow what changes under keys that begin with a prefix: an iterator that waits, of `Changed`.

        Each change is told at least once, those of a key in their order. It begins with what comes after the position
        `since` (or its text), or now. With `state`, where there is no position, `Reset` comes first, then all keys with
        their values, then `Synced`. It goes on from replica to replica (docs/watch.md); where none has kept all that
        changed, the state is told anew with `state`, and else it ends with `Compacted`. Without an answer of any
        replica for `patience` seconds, it raises `NoAnswer`, and may be gone on with.
        """
        return Watch(self._driver, self._options, self._codec, prefix, since, state=state, patience=patience)

    def refresh(  # noqa: PLR0913 - what may be other than before, by name
        self,
        base: int,
        *,
        f: int | None = None,
        e: int | None = None,
        members: MemberChange | None = None,
        protocol: str | None = None,
        upgrade: bool = False,
        request: int | None = None,
        dry_run: bool = False,
        replica: str | None = None,
        timeout: float | None = None,
    ) -> Change:
        """Ask for the epoch after `base`, with the same members or with others; returns what has become of it.

        With `members` some join, or go (docs/operations.md). With `f` or `e` it has those thresholds: crashes that it
        survives, and under which it keeps the fast path. With `protocol` it decides by that one. With `upgrade` it is
        of the highest level that all replicas know, and programs that do not know it cannot come back.

        An epoch drops what replicas remember of keys and of ended sessions, and commands wait for it for a few round
        trips (docs/operations.md). With `dry_run` nothing is changed. Asked again with the same `request`, a
        number of up to 64 bits, it happens once.
        """
        index, begun = self._options.index_of(replica), monotonic()
        call = Ask(
            index,
            self._options,
            begun,
            timeout,
            change_of(base, request, f, e, members, protocol=protocol, upgrade=upgrade, dry_run=dry_run),
        )
        with span(call):
            self._driver.run(call)
            return call.change()
