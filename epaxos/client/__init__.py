"""Clients for programs: `epaxos.Client` (blocking), `epaxos.AsyncClient` (asyncio), and what they share.

A client has one session with the cluster (a random 64-bit id) and numbers its commands 1, 2, 3, …: replicas
execute a number of a session once, so that a command without answer can be sent again, to any replica.

    commands      what may be asked, and what the answers mean
    ticket        one submission: its numbers and its fate
    routing       which replica to send to
    session       numbers, frames, retries and deadlines; no socket, no clock
    wire          a session's sockets
    blocking      the threads' front: the calling thread does its own sending and waiting
    asynchronous  the event loop's front
    options       what a client is given when it is made

This package imports none of them: who needs one part does not pay for the others.
"""
