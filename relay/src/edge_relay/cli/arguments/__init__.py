"""The commands and their options. A parser is built at each start, so nothing here imports the models.

May import: the standard library.
Never here: what a command does.
"""
