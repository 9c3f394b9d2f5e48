"""What workers and operators do with a job: start, finish, release, cancel, redrive, call the Execution API.

May import: `dispatch`, `metrics`, `tracing`, `stores`, `identity`, `gate`, `edge_broker` and `edge_schemas`.
Never here: requests, responses, the application object.
"""
