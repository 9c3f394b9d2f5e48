"""JetStream's protocol: pulls and their statuses, acknowledgements, conditional appends, reads of stored messages.

May import: `connection`, orjson and the standard library.
Never here: names of our streams and subjects, or what a message holds.
"""
