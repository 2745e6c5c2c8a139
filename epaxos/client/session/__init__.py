"""One session with the cluster as values in, values out: no socket, clock, thread or chance of its own.

core       the session: what is asked, sent, due
state      what the parts of it share
beginning  how it begins, and another one after it
receiver   what comes from replicas, and what it says
tickets    what was submitted, under which numbers, and in which frames it is under way
outbox     what waits to be sent, and the frames it goes out in
questions  asking replicas for their status
routes     which replica to send to
answers    the bodies of a replica's answers, checked
fate       why a command failed, in words
alarms     what is to be looked at when
"""
