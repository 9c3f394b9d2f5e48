"""What workers and operators do with a job: start, finish, release, cancel, redrive, call the Execution API.

May import: `dispatch`, `metrics`, `tracing`, `stores`, `identity`, `gate`, `shielded`, `limits`, `edge_broker`,
`edge_schemas` and `edge_service`.
Never here: requests, responses, the application object.
"""
