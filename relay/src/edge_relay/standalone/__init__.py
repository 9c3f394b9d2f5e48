"""`edge-relay standalone`: relay, nats-server, certificates and secrets in one process tree, for laptops and demos.

May import: `serve`, `identity`, `settings`, `edge_ui`, `edge_broker`, `edge_service`, `edge_schemas`, cryptography, and
what starts processes and writes private files.
Never here: anything that a relay in production needs.
"""
