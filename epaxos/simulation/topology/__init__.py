"""The core over a table of round-trip times between sites: what its latencies are, and what they could be at best.

table    the file: sites, quorums, times
optimum  the least that a table allows
clients  the load: clients at each site, each with one command under way
run      replicas, a network with the table's delays, and nothing that goes wrong
report   the figures beside the optimum, as a table and as JSON
"""
