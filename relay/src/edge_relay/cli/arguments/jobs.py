"""The commands about jobs: where they are, why they wait, what they may use."""

from edge_relay.cli.arguments.lazily import Subparsers, group, lazily
from edge_relay.cli.arguments.option_types import positive
from edge_relay.cli.arguments.shared import (
    JOB_STATES,
    add_change_options,
    add_job_filters,
    add_relay_options,
    reader,
)

JOBS = "jobs: where they are, and their end"
DEAD = "parked jobs: released too often, they wait for a decision"
POLICY = "what jobs may use of Airflow, and what they used; policies are set at the centre"
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
    why.add_argument("dag", metavar="DAG", nargs="?", help="id of the DAG; alone, the id of a job")
    why.add_argument("run", metavar="RUN", nargs="?", help="id of the run")
    why.add_argument("task", metavar="TASK", nargs="?", help="id of the task")
    why.add_argument("--map-index", type=int, default=-1, metavar="N", help="of a mapped task")
    why.add_argument("--job", metavar="JOB", help="the same as the id of a job alone")
    add_relay_options(why)
    why.set_defaults(command=lazily("why", "show_causes"))


def add_policy(commands: Subparsers) -> None:
    """`policy`."""
    policy = group(commands, "policy", POLICY)
    show = policy.add_parser("show", help="list the policies of queues and sites")
    show.set_defaults(command=lazily("policy", "show_policies"))
    accesses = policy.add_parser("accesses", help="list what the jobs of a queue or a site used")
    accesses.set_defaults(command=lazily("policy", "list_accesses"))
    suggest = policy.add_parser(
        "suggest",
        help="print a policy that allows what jobs used",
        description="Print a policy that allows what jobs used; the centre sets it: airflow edge-relay policy set.",
    )
    suggest.set_defaults(command=lazily("policy", "suggest_policy"))
    suggest.add_argument(
        "--group",
        type=int,
        default=20,
        metavar="N",
        help="so many names with the same first part become one pattern; 0 for never; default 20",
    )
    for parser in (accesses, suggest):
        parser.add_argument("--queue")
        parser.add_argument("--site")
        parser.add_argument("--days", type=positive, default=30, metavar="N", help="the last N days; default 30")
    for parser in (show, accesses, suggest):
        add_relay_options(parser)
