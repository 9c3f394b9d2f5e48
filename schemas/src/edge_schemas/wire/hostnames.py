"""What Airflow shows as the hostname of a task at the edge: the worker and its site."""

import re

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME = re.compile(rf"({_LABEL})\.({_LABEL})")


def task_hostname(worker: str, site: str) -> str:
    """`worker.site`. Both are DNS labels, so it has the form of a host's name and can be taken apart again."""
    return f"{worker}.{site}"


def worker_and_site(hostname: str) -> tuple[str, str | None]:
    """The names in a hostname. Workers of older versions report their name only, without a site."""
    match = _HOSTNAME.fullmatch(hostname)
    return (match[1], match[2]) if match else (hostname, None)
