"""The agent itself: builds the parts, polls the relay, enrols, shuts down in stages.

May import: every room but `doctor` and `runtime_install`.
Never here: what happens to one job; that is `jobs`.
"""
