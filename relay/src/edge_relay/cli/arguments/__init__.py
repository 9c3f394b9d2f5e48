"""The commands and their options. A parser is built at each start, so nothing here imports the models.

May import: the standard library, and `settings` where a command has a relay's settings as options.
Never here: what a command does.
"""
