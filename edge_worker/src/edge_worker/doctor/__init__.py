"""`edge-worker doctor`: names the layer that keeps jobs from running on this machine, and says what to do.

It looks with the worker's own settings, proxy resolution, TLS context and HTTP client, and changes nothing: it may run
before enrolment and beside a running agent. No finding holds a secret.
"""
