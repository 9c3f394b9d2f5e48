"""The upload of a job's log to the relay: the file on disk, and the upload by offset.

May import: `relay`, `state`, `task_host.log_file`.
Never here: errors that affect the task.
"""
