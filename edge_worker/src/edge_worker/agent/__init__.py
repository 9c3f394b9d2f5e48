"""The agent itself: builds the parts, polls the relay, enrols, shuts down in stages.

May import: `edge_schemas` and every room but `doctor` and `runtime_install`; of `task_host` only `lease`.
Never here: what happens to one job; that is `jobs`.
"""
