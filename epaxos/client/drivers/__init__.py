"""What makes a session run: callers on the one side, sockets on the other.

threads  the threads of a blocking client take turns: who waits for an answer sends and receives for all
wire     the sockets
calls    parts of a bulk call, and answers as results
"""
