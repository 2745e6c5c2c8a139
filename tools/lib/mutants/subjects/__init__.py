"""The mutants, a module a subject."""
