"""The local system: the smallest complete system on one machine, without containers.

May import: the standard library, aiohttp, proxy.py, and the wire's route names (`edge_schemas.wire.routes`).
Must never import: relay, bridge, worker or tests. It starts the products' programs, as an operator does.
"""
