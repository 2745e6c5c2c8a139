"""Many seeds, on all cores."""
