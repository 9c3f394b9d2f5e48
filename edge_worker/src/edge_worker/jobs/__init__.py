"""One job at the worker, from grant to outcome: state, process, fence, release, finish.

May import: `logs`, `host_client`, `relay`, `state`, `processes`.
Never here: the poll, the gateway, other jobs' business.
"""
