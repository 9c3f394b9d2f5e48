"""Published bundles in NATS: the store of pieces and manifests, and the bucket that says which versions there are.

May import: `connection`, `jetstream`, `bucket`, `records`, `watched_bucket`, `subjects`, `edge_service` and
`edge_schemas`.
Never here: files on a disk, Airflow; which version a job gets.
"""
