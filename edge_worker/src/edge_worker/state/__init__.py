"""What the worker keeps on disk: its identity, one folder per job, ended jobs, the folder of sockets.

May import: `processes`, `files`, `log`, `settings`, `environment`, `task_host.job_files`, `task_host.log_file`,
`command_host.request` and `edge_schemas`.
Never here: network, event loop.
"""
