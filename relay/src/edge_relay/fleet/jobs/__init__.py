"""Jobs as operators see them: unfinished ones from memory, ended ones from their stream, one in full from its record.

May import: `fleet.lists`, `dispatch`, `edge_broker` and `edge_schemas`.
Never here: changes of a job.
"""
