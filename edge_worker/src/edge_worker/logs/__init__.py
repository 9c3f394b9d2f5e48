"""A job's log on its way to the relay: the file on disk and the upload by offset.

May import: `relay`, `state`, `task_host.log_file`.
Never here: a fault that reaches the task.
"""
