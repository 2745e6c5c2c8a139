"""Locks, elections, leases, barriers and counters, made of what any client can do.

holding       what is asked of the store, and what a holder may believe: without threads, sockets or a clock of its own
blocking      for threads
asynchronous  for asyncio
"""
