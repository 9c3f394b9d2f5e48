"""Jobs as operators see them: unfinished ones from memory, ended ones from their stream, one in full from its record.

May import: `fleet.pages` and `fleet.lists`, `fleet.workers`, and what `fleet` may.
Never here: changes of a job.
"""
