"""What makes a session run: callers on the one side, sockets on the other.

threads  the threads of a blocking client take turns: who waits for an answer sends and receives for all
loop     an event loop does it for its tasks
base     what those two are; what a fork and a turn that fails come to
calls    what one caller asks and waits for: a command, a bulk of them, a status
wire     the sockets
"""
