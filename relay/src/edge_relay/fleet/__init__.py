"""What operators see of workers, sites, queues and jobs, from what this replica holds in memory; and of policies.

May import: `desired`, `dispatch`, `gate`, `identity`, `lifecycle`, `limits`, `metrics`, `workers`, `edge_broker` and
`edge_schemas`.
Never here: HTTP, changes of what operators set, decisions about a job.
"""
