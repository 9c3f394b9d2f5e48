"""The machine's owner and the running agent: a Unix socket, what it tells and what it is told, and the commands for it.

May import: `jobs`, `bundles`, `relay`, `state`, `processes`, `task_host.job_files`, `task_host.log_file`, `files`,
`log`, `settings`, `settings_sources` and `edge_schemas`.
Never here: the network, a call to the relay, a decision of the centre.
"""
