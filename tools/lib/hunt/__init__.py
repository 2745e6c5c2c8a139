"""One mutant hunted in a process of its own: seed after seed, until one does not end clean."""
