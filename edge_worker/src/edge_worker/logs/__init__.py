"""The upload of a job's log to the relay: the file on disk, and the upload by offset.

May import: `relay`, `state`, `task_host.job_files`, `task_host.log_file`, `files`, `log` and `edge_schemas`.
Never here: errors that affect the task.
"""
