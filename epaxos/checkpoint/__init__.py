"""What a replica's memory comes to on disk besides its promises: checkpoints, and how a peer gets one."""
