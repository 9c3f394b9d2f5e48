"""Virtual environments with the packages that published bundles require: made by uv, kept, shared by tasks, pruned.

May import: `bundles`, `host_client`, `relay`, `state`, `files`, `log`, `environment`, `settings` and `edge_schemas`.
Never here: the life of a job; `jobs` asks for a job's packages before it launches the job.
"""
