"""A cluster that does only what a script says, and a transcript of what it does."""
