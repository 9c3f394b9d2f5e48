"""Processes: start, supervise, list and end them, with everything that they started.

May import: the standard library.
Must never contain: anything about Edge Relay, Airflow or networks.
"""
