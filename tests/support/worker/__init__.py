"""Agents in the test's process and as processes of their own, a runtime without Airflow, and the worker's doctor."""
