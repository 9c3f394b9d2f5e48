"""Several real parts that run together, and what a test reads of them: metrics, spans, folders, secrets."""
