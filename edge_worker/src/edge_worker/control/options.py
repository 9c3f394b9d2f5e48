"""The command line of what the machine's owner asks of the agent, without imports that cost time."""

import argparse
from pathlib import Path

OWN = ("do", "reason", "wait", "job", "follow", "limit", "json")
"""Options that are no settings."""
COMMANDS = ("status", "pause", "resume", "drain", "stop", "logs")
_EPILOG = "Exit status: 0 done, 1 refused, failed, or no agent runs, 2 wrong usage or settings, 130 interrupted."


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands. They need the state folder and no other setting."""
    status = _add(commands, "status", "show what the agent does: link, slots, jobs, health; exits with 1 if none runs")
    status.add_argument("--json", action="store_true", help="print JSON")
    pause = _add(
        commands,
        "pause",
        "take no new jobs until 'resume'; what runs goes on",
        "The pause is kept: it survives a restart of the agent and of the machine, and it does not depend on what "
        "operators order at the centre, who see it with its reason. Works without a running agent too.",
    )
    pause.add_argument("--reason", default="", metavar="WHY", help="shown to operators at the centre")
    _add(commands, "resume", "end the pause of this machine; an operator's order stays")
    drain = _add(commands, "drain", "take no new jobs, wait for those that run, then end the agent")
    stop = _add(commands, "stop", "stop the jobs that run, then end the agent")
    for ending in (drain, stop):
        ending.add_argument("--no-wait", action="store_false", dest="wait", help="do not wait for the end of the agent")
    logs = _add(
        commands,
        "logs",
        "list the logs of tasks on this machine, or print one",
        "The copies on this machine's disk. They are kept for a time after the end of a job, uploaded or not.",
    )
    logs.add_argument("job", nargs="?", metavar="JOB", help="id of a job, or its beginning; without it, a list")
    logs.add_argument("--follow", action="store_true", help="print what is added until the job ends")
    logs.add_argument("--limit", type=_count, default=50, metavar="N", help="of the list: the newest; default 50")
    logs.add_argument("--json", action="store_true", help="print the list as JSON, a log as it is on disk")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, more: str | None = None
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=more or f"{text[0].upper()}{text[1:]}.", epilog=_EPILOG)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    text = "of the agent; needed if it is not where this user's would be"
    parser.add_argument("--state-dir", dest="state_dir", metavar="D", help=text)
    parser.set_defaults(do=name)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return int(text)
