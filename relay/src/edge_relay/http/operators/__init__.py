"""Handlers of the operators' listener for sign-in, tokens and the audit. They parse and answer only.

May import: what `http` may import.
Never here: NATS, decisions; these belong in the rooms below.
"""
