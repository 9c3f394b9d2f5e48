"""The gate: the HTTP server that checks and forwards Execution API calls of edge tasks.

May import: the rest of the keeper below it (`dispatch`, `tokens`, `metrics`), `edge_broker` and `edge_schemas`.
Never here: loops over jobs; one call is checked, forwarded and recorded.
"""
