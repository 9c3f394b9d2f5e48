"""`edge-relay doctor`: finds what keeps the relay from serving, with the relay's settings and NATS user.

May import: `serve`, `identity`, `settings`, `edge_ui`, `edge_broker`, `edge_service`, `edge_schemas`,
cryptography.
Never here: changes, so that it may run before the relay's first start and next to it; secrets in findings.
"""
