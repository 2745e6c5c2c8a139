"""epaxos: a leaderless replicated key-value service over EPaxos*."""

from epaxos.version import __version__

__all__ = ["__version__"]
