"""The edge worker: a thin agent, its local gateway and the task host."""

__version__ = "0.1.0"
