"""Published versions of DAG bundles on this machine: fetched once, verified, compiled, shared by tasks, and pruned.

May import: `host_client`, `relay`, `state`, `files`, `log`, `settings` and `edge_schemas`.
Never here: the life of a job; `jobs` asks for the folder with a job's code before it launches the job.
"""
