"""The benchmark harness behind `epaxos bench`: `run.run_bench` takes `options.BenchOptions`, gives a `run.Result`.

workload    the commands of each client, from a seed
pace        when commands are due, and how many there are
session     one client: its request numbers and its frames under way
links       the connections to the replicas
load        the loop that sends what is due and takes the answers
histogram   latencies; `results` counts what became of the commands, `series` over time
floor       what the network library alone costs
verify      whether the answers were right; `settle` compares the replicas' states
report      a table and JSON; `progress` the bar
"""
