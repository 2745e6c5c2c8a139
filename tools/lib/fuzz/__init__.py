"""Bad frames for every socket of a loaded cluster."""
