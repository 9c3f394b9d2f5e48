"""`edge-worker runtime`: makes the Airflow runtime in which tasks run, and shows it.

May import: `host_client`, `relay`, `state`, `settings`, `settings_sources`, `environment`, `files`,
`edge_service.text_files` and `edge_schemas`.
Never here: the agent or its jobs; a running agent uses a new runtime after its restart.
"""
