"""How people show who they are: sessions of browsers, and tokens of an identity provider.

May import: `identity`, `settings`, `sign_in_settings`, `edge_broker` and `edge_schemas`.
Never here: requests and responses of the relay; callers pass texts in and get operators back.
"""
