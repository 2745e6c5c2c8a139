"""A run as a space-time diagram: time goes to the right, each replica is a line, each message an arrow.

seen     what happens, kept by an observer of the simulator; and which of it is shown
drawing  that as SVG
staged   small runs without chance, for the documents
"""
