"""What all lists share: pages, and values that are computed once for all callers.

May import: the broker's errors and the wire.
Never here: what a list shows.
"""
