"""The actors of a replica process: Replica, one Remote per peer, and the mailbox under both."""
