"""The machine the agent runs on: its health as reported, and its disk space.

May import: `jobs`, `relay`, `state`.
Never here: decisions about a single job.
"""
