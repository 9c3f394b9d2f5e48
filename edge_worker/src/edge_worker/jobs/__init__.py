"""One job at the worker, from grant to outcome: state, process, fence, release, finish.

`machine` decides, without I/O; `driver` has its actions carried out and posts the results as events.

May import: `bundles`, `logs`, `host_client`, `signing`, `relay`, `state`, `processes`, `task_host.job_files`,
`task_host.lease`, `files`, `log` and `edge_schemas`.
Never here: the poll, the gateway, other jobs' business.
"""
