"""`edge-worker doctor`: finds the layer that keeps jobs from running on this machine, and advises what to do.

May import: `edge_schemas`, `edge_service.findings` and every room but `agent` and `runtime_install`. It checks with the
worker's own settings, proxy, TLS context and HTTP client.
Never here: any change of the machine; it may run before the enrolment and next to a running agent. Secrets in findings.
"""
