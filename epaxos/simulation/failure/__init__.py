"""What is told of a seed that failed: the path of a small run that fails the same way."""
