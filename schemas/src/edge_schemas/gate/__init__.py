"""What relay and keeper share about Execution API calls: allowed paths, signatures, facts about the centre.

May import: `wire`, pydantic and the standard library.
Never here: I/O, an HTTP framework, a secret.
"""
