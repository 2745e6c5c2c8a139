"""What a data directory holds, for people: `epaxos inspect`.

contents  everything but the values, read from the directory, and how far the replica is by it
summary   the whole, as a table of figures
place     one instance with all its fields, what it depends on and what depends on it
graph     a piece of the dependency graph, in the order of execution; `svg` draws it, `dot` writes it for Graphviz
wording   how instances, commands and bytes are written
"""
