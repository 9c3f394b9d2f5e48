"""What operators see of workers, sites, queues and jobs, from what this replica holds in memory.

May import: `desired`, `dispatch`, `gate`, `identity`, `metrics`, `stores`, broker and wire.
Never here: HTTP, changes of what operators set, decisions about a job.
"""
