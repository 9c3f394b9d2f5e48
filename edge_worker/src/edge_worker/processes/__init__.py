"""Process trees and the process table: find, signal, freeze and kill the processes of a job.

May import: `task_host.job_files`, `task_host.signals` and the standard library.
Never here: what a process is for.
"""
