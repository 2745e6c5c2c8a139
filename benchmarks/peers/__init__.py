"""Other systems that a user can install, under the workload that ours is under.

peer      what each of them is asked for: whether it is installed, its servers, its settings, a load
systems   the systems
driver    a load by a system's own Python client, as a process of its own
node      a process of a program that is replicated by PySyncObj
compare   all of them in turn
"""
