"""Every exception the package raises on purpose.

Four audiences, four families. A user's mistake (`ConfigError`, `UsageError`) carries one line that
says what, where and what is allowed. Bad bytes from the network (`FrameError`) are counted by `kind`
and dropped: they never stop a replica. A broken invariant (`InvariantError`) stops the replica at once,
before a wrong state can spread to its peers. Trouble with the disk (`StorageError`) stops it too: it may
promise nothing that it cannot keep.
"""

from __future__ import annotations


class EpaxosError(Exception):
    """The root of all errors of this package."""


class ConfigError(EpaxosError):
    """A configuration that cannot be used; the text names the file, the key and what is allowed."""


class InvariantError(EpaxosError):
    """An invariant of the protocol does not hold in this replica; it must stop."""


class StorageError(EpaxosError):
    """The engine cannot keep or give back what it should; the text says what, where and what to do."""


class DirectoryLocked(StorageError):
    """Another process uses the data directory."""


class DirectoryMissing(StorageError):
    """There is no data directory, and none was to be made."""


class NotADataDirectory(StorageError):
    """The directory holds something else than a replica's data."""


class FormatUnsupported(StorageError):
    """The data is in a format that this version of the program does not read."""


class WrongIdentity(StorageError):
    """The data belongs to another cluster, to another row, or to a cluster of another size."""


class Retired(StorageError):
    """The data is that of a replica which has been removed from its cluster, and which nobody needs any more."""


class DataCorrupt(StorageError):
    """What is read is not what was written: a checksum or a structure on disk is wrong."""


class WriteFailed(StorageError):
    """A write or a sync failed: disk full, I/O error, read-only.

    Nothing of it may be relied on, and the engine refuses all further use. A later sync that succeeds
    proves nothing: the kernel reports a failed write once and may have dropped the pages by then.
    """


class RowRefused(StorageError):
    """A part of a checkpoint cannot be written, though the disk works: all of it is given up.

    What it was to hold is still in memory and in the log, and the engine is as usable as before.
    """


class NoDescriptor(RowRefused):
    """A file that is there cannot be opened once more for now: the process, or the machine, has too many open."""


class BackupError(EpaxosError):
    """A backup cannot be made, or a file is none, or a damaged one."""


class FrameError(EpaxosError):
    """Bytes from the network that are not a frame of this cluster and version.

    `kind` is the short label under which the event is counted: ``malformed``, ``oversized``,
    ``checksum``, ``version``, ``cluster``, ``unknown``, ``sender``.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class CommandError(EpaxosError):
    """A well-framed client request with a command that may not be proposed.

    `index` is the position of the offending command in its batch, so that a client library which
    coalesced many callers' commands into one frame can fail that caller alone.
    """

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index = index


class TooNew(CommandError):
    """A command that the cluster, which is at `level`, does not know yet."""

    def __init__(self, index: int, text: str, level: int) -> None:
        super().__init__(index, text)
        self.level = level


class Denied(CommandError):
    """A command that this client may not have proposed: its role is too small, or a key is not its own."""


class ClientError(EpaxosError):
    """A command that the client library could not complete.

    `may_have_executed` says whether the command may have taken effect or may still do so; of a read without answer
    it is False.
    """

    may_have_executed = False


class Refused(ClientError):
    """The replica refused the command (bad operation, key or value too long); it did not execute."""


class Busy(ClientError):
    """Every replica tried turned the command away, for want of room or of a quorum; it did not execute."""


class NoAnswer(ClientError):
    """No replica answered in time, none could be reached, or the client failed.

    A command that was sent may have executed, or may still do so.
    """

    may_have_executed = True


class Untold(ClientError):
    """The command executed, but what it came to is not known."""

    may_have_executed = True


class Undecodable(ClientError):
    """The command executed, but the codec of whoever asked cannot read the bytes it returned; `value` has them."""

    may_have_executed = True

    def __init__(self, text: str, value: bytes) -> None:
        super().__init__(text)
        self.value = value


class SessionExpired(ClientError):
    """The client was silent, or its command under way, for so long that replicas have forgotten the session."""

    may_have_executed = True


class Compacted(ClientError):
    """No replica has kept all that has changed since the position of a watch: some of it may be missing."""


class Closed(ClientError):
    """The client was closed before or while the command was under way."""

    may_have_executed = True


class LeaseLost(EpaxosError):
    """A lock, an election or a lease is not held any more: another may have it."""


class OperationFailed(ClientError):
    """The command executed and failed as its operation defines: it changed nothing.

    Raised for an increment of something that is not a number, a result out of range or too large,
    and a `multi` of which one operation failed.
    """


class Locked(OperationFailed):
    """The command met the lock of a transaction across groups and changed nothing; an `epaxos.GroupClient` ends that.

    `record` is the key of the transaction's record, `groups` names the groups, each with the generation in which its
    coordinator began there.
    """

    def __init__(self, text: str, record: bytes, groups: dict[bytes, int]) -> None:
        super().__init__(text)
        self.record = record
        self.groups = groups
