"""The machine the agent runs on: its health as reported, and its disk space.

May import: `jobs`, `relay`, `state`, `log` and `edge_schemas`.
Never here: decisions about a single job.
"""
