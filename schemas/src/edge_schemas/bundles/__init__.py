"""A version of a DAG bundle as it is published and fetched: its manifest and its pieces, without I/O."""
