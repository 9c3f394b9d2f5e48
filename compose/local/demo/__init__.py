"""The commands `make demo` and `make up`: console output, checks of the demo run, and the demo DAG in `dags/`.

May import: every other room of `local`.
Must never contain: code that starts or stops a process. That code is in `local.system` and `local.processes`.
"""
