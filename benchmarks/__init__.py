"""How fast a cluster is, and beside what: `benchmarks/run` names each benchmark and runs it.

cluster     our replicas as processes: started, loaded, and what they used
study       cases in turn, cycle by cycle: figures, medians, ranges, ratios to a baseline
workloads   the benchmarks that are cases under a load
protocols   the service's two protocols side by side
failover    a replica is killed and comes back, over time
keys        what many keys cost, and whether a million commands cost what the million before did
wan         latencies over a map, by the simulator
peers       other systems under the same workload
bars        what was aimed at, and where that is today
report      tables, JSON and docs/performance.md; `plots` the pictures
guard       this tree beside a commit; `micro`, `steps`, `profiled` and `storage` parts by themselves
"""
