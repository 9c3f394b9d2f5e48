"""The options of `submit`."""

from argparse import REMAINDER
from pathlib import Path

from edge_relay.cli.arguments import option_types as types
from edge_relay.cli.arguments.lazily import Subparsers, lazily

SUBMIT = "submit a command or a payload to a queue, and follow it to its end"
_DESCRIPTION = (
    "Submit a command: everything after '--' is the program with its arguments. Its log is printed while it runs, and "
    "its exit code becomes the exit status. Ctrl-C cancels it. While it waits, standard error has the reason."
)
_EPILOG = (
    "Exit status: that of the command; 128 and the signal if a signal ended it; 130 after Ctrl-C; 1 if the job ended "
    "in another way or was parked, or not all jobs of a batch succeeded; 2 wrong usage or setting; 3 no answer."
)


def add_submit(commands: Subparsers) -> None:
    """`submit`."""
    submit = commands.add_parser("submit", help=SUBMIT, description=_DESCRIPTION, epilog=_EPILOG)
    submit.add_argument("--queue", required=True, metavar="Q", help="where it waits for a worker")
    work = submit.add_argument_group("what, instead of a command")
    work.add_argument("--payload", metavar="FILE", help="a payload for a consumer; '-' reads standard input")
    work.add_argument("--content-type", metavar="TYPE", help="of the payload; default application/octet-stream")
    work.add_argument("--batch", metavar="FILE", help="submissions, one JSON object in each line; '-' reads input")
    command = submit.add_argument_group("of a command")
    command.add_argument("--env", type=types.variable, action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--cwd", metavar="DIR", help="where it runs; default a folder of its own")
    command.add_argument("--timeout", type=types.seconds, metavar="TIME", help="then it is stopped: 90s, 30m, 1h")
    job = submit.add_argument_group("of each job")
    job.add_argument("--name", help="for lists; default the command")
    job.add_argument("--key", help="idempotency key: submitted again, it is the same job")
    job.add_argument("--priority", type=int, metavar="N", help="the higher is first; default 0")
    job.add_argument("--delay", type=types.seconds, metavar="TIME", help="not before this time has passed")
    job.add_argument("--ttl", type=types.seconds, metavar="TIME", help="it ends if it has not started by then")
    job.add_argument("--on-lost", choices=("requeue", "fail"), help="what happens if its worker is lost")
    job.add_argument("--max-attempts", type=types.positive, metavar="N", help="how often it may start; default 3 or 1")
    job.add_argument("--group", help="jobs of a group run one after the other")
    job.add_argument("--label", type=types.label, action="append", default=[], metavar="KEY=VALUE")
    submit.add_argument("--detach", action="store_true", help="print the id of the job, and do not follow it")
    submit.add_argument(
        "--json", action="store_true", help="print the job, or its end, as JSON; its log is not printed"
    )
    where = submit.add_argument_group("which relay")
    where.add_argument("--relay", metavar="URL", help="address for workers and producers; variable RELAY_URL")
    where.add_argument("--data-dir", type=Path, metavar="D", help="of a standalone relay on this machine")
    where.add_argument(
        "--access-token-file", type=Path, metavar="FILE", help="token of a producer; variable RELAY_ACCESS_TOKEN_FILE"
    )
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file; variable RELAY_CA_FILE")
    submit.add_argument("argv", nargs=REMAINDER, metavar="-- COMMAND ARGUMENT", help="the command")
    submit.set_defaults(command=lazily("submit.command", "submit"))
