"""Clients for programs: `epaxos.Client` (blocking), `epaxos.AsyncClient` (asyncio), and what they share.

A client has one session with the cluster (a random 64-bit id) and numbers its commands 1, 2, 3, …: replicas
execute a number of a session once, so that a command without answer can be sent again, to any replica.

    blocking      the methods of the blocking client
    asynchronous  the methods of the asyncio client
    methods       those that clients of one cluster and of several share
    decoding      what the answers mean
    commands      what may be asked
    codecs        how values that are no bytes stand in the store
    tracing       spans around calls
    options       what a client is given when it is made
    drivers/      what makes a session run: threads or an event loop, and sockets
    session/      numbers, frames, retries and deadlines; no socket, no clock

A module imports those below it. This package imports none of them: who needs one part does not pay for the others.
"""
