"""The edge worker: a thin agent, its local gateway and the task host."""
