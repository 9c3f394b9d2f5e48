"""The parts of one replica: what its handlers and loops share.

May import: the rooms below, `edge_broker` and `edge_service`.
Never here: what a part does.
"""
