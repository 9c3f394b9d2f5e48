"""What every supervisor of a job needs, whatever runs under it: the claim of the job, its fence, why it was killed.

May import: `task_host.job_files`, `task_host.lease`, `task_host.protocol`, `task_host.signals` and the standard
library.
Never here: Airflow, httpx: commands run without them.
"""
