"""The commands about jobs and why they wait."""

from edge_relay.cli.arguments.lazily import Subparsers, group, lazily
from edge_relay.cli.arguments.shared import (
    JOB_STATES,
    add_change_options,
    add_job_filters,
    add_relay_options,
    reader,
)

JOBS = "jobs: where they are, and their end"
DEAD = "parked jobs: released too often, they wait for a decision"
WHY = "say why a task or a job is still queued"


def add_jobs(commands: Subparsers) -> None:
    """`jobs`."""
    jobs = group(commands, "jobs", JOBS)
    listing = reader(jobs, "list", "list jobs", "jobs", "list_jobs", is_list=True)
    add_job_filters(listing)
    listing.add_argument("--site", help="only at this site")
    listing.add_argument("--text", help="part of id or task")
    listing.add_argument("--state", choices=JOB_STATES, help="only these")
    show = reader(jobs, "show", "show a job: state, holder, timeline", "jobs", "show_job")
    show.add_argument("job", metavar="JOB")
    cancel = jobs.add_parser("cancel", help="end jobs in any state; for Airflow they are cancelled")
    cancel.add_argument("jobs", nargs="*", metavar="JOB")
    add_job_filters(cancel)
    add_change_options(cancel, reason="shown in the task's log and kept in the audit")
    cancel.set_defaults(command=lazily("fleet.jobs", "cancel"))


def add_dead(commands: Subparsers) -> None:
    """`dead`."""
    dead = group(commands, "dead", DEAD)
    listing = reader(dead, "list", "list parked jobs, with the reason", "jobs", "list_dead", is_list=True)
    add_job_filters(listing)
    for name, text in (("redrive", "publish them again"), ("purge", "end them and remove their history")):
        action = dead.add_parser(name, help=text)
        action.add_argument("jobs", nargs="*", metavar="JOB")
        add_job_filters(action)
        action.add_argument("--all", action="store_true", help="every parked job")
        add_change_options(action)
        action.set_defaults(command=lazily("fleet.jobs", name))


def add_why(commands: Subparsers) -> None:
    """`why`."""
    why = commands.add_parser(
        "why",
        help=WHY,
        description="Say why a task instance or a job has not started; the cause that blocks it most comes first.",
    )
    why.add_argument("dag", metavar="DAG", nargs="?", help="id of the DAG")
    why.add_argument("run", metavar="RUN", nargs="?", help="id of the run")
    why.add_argument("task", metavar="TASK", nargs="?", help="id of the task")
    why.add_argument("--map-index", type=int, default=-1, metavar="N", help="of a mapped task")
    why.add_argument("--job", metavar="JOB", help="a job, in place of DAG, RUN and TASK")
    add_relay_options(why)
    why.set_defaults(command=lazily("why", "show_causes"))
