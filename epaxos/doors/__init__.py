"""What lets programs in that speak other protocols than ours: threads of a replica's process, and what they share."""
