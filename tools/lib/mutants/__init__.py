"""Known bugs, re-introduced one at a time, and which seeds of the simulator catch each."""
