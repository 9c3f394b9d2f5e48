"""Contact: how long the holder of a job has been silent, whatever the clocks of relays and keeper show.

May import: `edge_schemas`.
Never here: I/O, a clock, what follows from silence.
"""
