"""Several whole clusters as one store, on one schedule, with clients that die: `epaxos simulate --groups N`.

plan      what a seed decides
callers   the code of real clients (`groups.calls`) over simulated sessions
atomic    what is checked over all groups
run       one run
"""
