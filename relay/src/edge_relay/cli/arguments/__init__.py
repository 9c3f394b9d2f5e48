"""The commands and their options. A parser is built at each start, so nothing here imports the models.

May import: `cli.arguments`, `settings` where a command has a relay's settings as options, the standard library.
Never here: what a command does.
"""
