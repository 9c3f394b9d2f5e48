"""What the worker keeps on disk: its identity, one folder per job, ended jobs, the folder of sockets.

May import: `processes`, `files`, `settings`, `task_host.job_files`.
Never here: network, event loop.
"""
