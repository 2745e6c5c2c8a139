"""Watching keys: what has changed at a replica, in the order in which it executed, from any position on."""
