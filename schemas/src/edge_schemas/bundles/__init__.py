"""A version of a DAG bundle as it is published and fetched: its manifest and its pieces, without I/O.

May import: the standard library and backports.zstd.
Never here: disks, networks, what a worker does with a version.
"""
