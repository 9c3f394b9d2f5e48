"""The state in NATS that parked polls need: watched for all polls together, and read only where it matters.

May import: what `dispatch` may, and the modules of `dispatch` that know no state: `directives` and `polls`.
Never here: pulls, grants, answers.
"""
