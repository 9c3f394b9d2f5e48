"""Groups of the relay's settings: for the sign-in of operators, and for what operators are shown.

May import: `edge_schemas`, pydantic and pydantic-settings.
Never here: what the settings do; reading of files.
"""
