"""How commands look on a terminal: tables, times, colours, progress.

May import: the standard library.
Never here: a call to a relay, what a row means.
"""
