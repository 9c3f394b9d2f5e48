"""Who may do what: credentials of workers and operators, enrolment tokens, receipts of grants.

May import: `desired`, `limits`, `edge_broker` and `edge_schemas`.
Never here: requests and responses; callers pass secrets in and get principals back.
"""
