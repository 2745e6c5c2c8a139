"""A cluster at work in one command."""
