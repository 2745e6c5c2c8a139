"""Who may come in, and what for: keys, lists of those that are let in, and the rights of each.

keys       key files, and the list of the replicas' keys
curve      the keys of sockets
access     the lists in the directory of keys, as they stand now
rights     what a client may do: its role, and the keys of the store that are its own
patience   how those are slowed down that try one key after the other

`docs/security.md` has the threat model.
"""
