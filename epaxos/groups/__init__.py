"""Several clusters as one store: keys by hash slot, and transactions across groups.

map          `groups.toml`: which group holds which keys
transaction  one transaction as values in, values out: who is asked what, and what it came to
driving      drives one over the clients of its groups
client       `GroupClient`: what `epaxos.Client` is for one cluster
"""

from epaxos.groups.client import GroupClient
from epaxos.groups.map import Groups, load_groups

__all__ = ["GroupClient", "Groups", "load_groups"]
