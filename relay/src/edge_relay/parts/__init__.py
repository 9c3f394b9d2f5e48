"""The parts of one replica: what its handlers and loops share.

May import: the rooms of the relay that the parts are of.
Never here: what a part does.
"""
