"""The network sandbox: a program that runs in it can reach only the forward proxy.

May import: the standard library and `local.processes`.
Must never contain: knowledge of the program that runs in the sandbox, or of the other parts of the system.
"""
