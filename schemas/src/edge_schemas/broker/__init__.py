"""What relay and bridge share of NATS: connection, buckets, records, layout and rights. Also how they log and trace.

The only place that imports `nats`. Installed with the extra `edge-relay-schemas[broker]`; a worker has none of it.
"""
