"""The relay's HTTP interface as an OpenAPI document: served by the relay, written to the reference, sent by tests.

May import: `wire`, `gate`, `producers`, `admin`, `why`, pydantic and the standard library.
Never here: I/O.
"""
