"""CASPaxos registers, and simple Paxos as one of their uses: values in, values out."""
