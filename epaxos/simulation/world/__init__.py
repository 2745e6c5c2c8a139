"""What a run consists of: virtual time, a network, disks, replicas and clients."""
