"""A whole cluster in one thread from one seed: virtual time, a hostile network, crashing replicas, checkers.

plan      what a seed decides before the first event: options, what clients ask for, what goes wrong
world     virtual time, the network, disks, replicas and clients
checkers  what must hold of what they do
run       one run of a plan, and what came of it; `coverage`: what it met
sweep     many seeds, on all cores
failure   a seed that failed, made small, and the path of its events
topology  latencies over a table of sites, without anything that goes wrong
"""
