"""Backups: what a replica holds as one file, and a new cluster made of it.

file       the file, written and read
saving     from the checkpoint of a replica, which may run, into a file
restoring  from a file into the data directories of a new cluster
"""
