"""Several clusters as one store: keys by hash slot, and transactions across groups.

map           `groups.toml`: which group holds which keys
transaction   one transaction as values in, values out: who is asked what, and what it came to
driving       drives one over the clients of its groups
calls         what a client does in a call, whoever drives it
client        `GroupClient`: what `epaxos.Client` is for one cluster
asynchronous  `AsyncGroupClient`: what `epaxos.AsyncClient` is for one cluster
"""
