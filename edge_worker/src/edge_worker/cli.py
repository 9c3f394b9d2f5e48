"""The command line of `edge-worker`."""

import argparse
import asyncio
import logging
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edge_service.closed_pipe import run_until_closed
from edge_service.text_files import NotText, read_text_file
from edge_worker import __version__
from edge_worker.control.options import COMMANDS as OWNERS_COMMANDS
from edge_worker.control.options import add_commands as add_owners_commands
from edge_worker.log import setup_logging
from edge_worker.settings import Settings, SettingsError, check_relay_url
from edge_worker.settings_sources import load_settings

EXIT_UNEXPECTED = 1
EXIT_SETTINGS = 2
EXIT_REFUSED = 4
EXIT_UNREACHABLE = 5
ENROLL_TRIES = 5
_STATUSES = (
    "Exit status: 0 done, 1 unexpected, 2 wrong settings, 3 the credential was revoked, 4 enrolment was refused, 5 the "
    "relay could not be reached. `doctor` ends with 1 if something failed, else with 0."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    return run_until_closed(partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = vars(parser().parse_args(argv))
    command, config = arguments.pop("command"), arguments.pop("config")
    renew = arguments.pop("renew", False)
    wanted = arguments.pop("queues", None) or []
    as_json = arguments.pop("json", False) if command == "doctor" else False
    try:
        if command == "runtime":
            from edge_worker.runtime_install.cli import run as run_runtime

            return run_runtime(arguments.pop("what"), arguments, config=config)
        if command in OWNERS_COMMANDS:
            from edge_worker.control.cli import run as run_owners_command

            return run_owners_command(arguments, config=config)
        if command == "doctor":
            return asyncio.run(_doctor(arguments, config=config, wanted=wanted, as_json=as_json))
        settings = load_settings(arguments, config=config)
        setup_logging(settings.log_level)
        return asyncio.run(_run(settings)) if command == "run" else asyncio.run(_enroll(settings, renew=renew))
    except SettingsError as error:
        print(f"edge-worker: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except BrokenPipeError:
        raise
    except OSError as error:
        # Usually a full or read-only disk; a traceback would not help.
        print(f"edge-worker: {error}", file=sys.stderr)
        return EXIT_UNEXPECTED
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    program = argparse.ArgumentParser(
        prog="edge-worker", description="Runs Airflow tasks at the edge.", epilog=_STATUSES
    )
    program.add_argument("--version", action="version", version=f"edge-worker {__version__}")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    enroll = commands.add_parser("enroll", help="enrol this machine as a worker, with an enrolment token")
    enroll.add_argument("--renew", action="store_true", help="replace the identity that this machine already has")
    run = commands.add_parser("run", help="accept jobs and run them until a signal drains the worker")
    doctor = commands.add_parser(
        "doctor",
        help="find what keeps jobs from running here, and advise what to do",
        description="Checks the settings, the network path to the relay and the machine, layer by layer, and changes "
        "nothing. Works before the enrolment, and next to a running agent.",
        epilog="Exit status: 0 no check failed, there may be warnings; 1 a check failed.",
    )
    add_owners_commands(commands)
    doctor.add_argument("--json", action="store_true", help="print all findings as a JSON array")
    doctor.add_argument("--queues", type=_queues, metavar="A,B", help="queues that this worker is expected to serve")
    for command in (enroll, run, doctor, *_add_runtime(commands)):
        command.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
        for name, field in Settings.model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("flag") is False:
                continue
            command.add_argument(*_flags(name), dest=name, metavar="VALUE", help=_help(field.description))
    return program


def _add_runtime(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    """Adds `runtime install` and `runtime show`."""
    from edge_worker.runtime_install.options import add_options

    runtime = commands.add_parser("runtime", help="make the Airflow runtime that tasks need, or show it")
    whats = runtime.add_subparsers(dest="what", required=True, metavar="COMMAND")
    install = whats.add_parser(
        "install",
        help="make it, with the version and the lock that the centre names",
        description="Makes the Airflow runtime in which tasks run, next to an existing one, tests it and then makes it "
        "the current one. Asks the centre, through the relay, which Airflow is needed. A repetition changes nothing.",
        epilog="Exit status: 0 it is installed, 1 it could not be installed, 2 wrong settings, 5 it is unknown what to "
        "install, or another installation is running.",
    )
    show = whats.add_parser("show", help="show what is installed, and whether it suits the centre")
    add_options(install, show)
    return [install, show]


def _queues(value: str) -> list[str]:
    return [queue.strip() for queue in value.split(",") if queue.strip()]


def _flags(name: str) -> list[str]:
    flag = "--" + name.replace("_", "-")
    return {"relay_url": [flag, "--relay"], "enroll_token_file": [flag, "--token-file"]}.get(name, [flag])


def _help(description: str | None) -> str:
    return (description or "").replace("%", "%%")


async def _doctor(flags: dict[str, object], *, config: Path | None, wanted: Sequence[str], as_json: bool) -> int:
    from edge_service.findings import as_json as in_json
    from edge_service.findings import as_text, exit_status
    from edge_worker.doctor.checks import examine_worker

    # All results are in the findings.
    logging.disable(logging.CRITICAL)
    findings = []
    async for finding in examine_worker(flags, config=config, wanted=wanted):
        findings.append(finding)
        if not as_json:
            print(as_text(finding), flush=True)
    if as_json:
        print(in_json(findings))
    return exit_status(findings)


async def _enroll(settings: Settings, *, renew: bool) -> int:
    # Imported late: `--version` and a wrong flag need no HTTP client.
    from edge_worker.agent.enroll import enroll
    from edge_worker.host_client.launcher import installed_airflow
    from edge_worker.relay.call_result import CallError, Refused
    from edge_worker.relay.retry import Fate, fate_of
    from edge_worker.signing.pinned_keys import trust_line
    from edge_worker.state.state import StateDir

    state = StateDir(settings.state_dir)
    state.prepare(settings.task_group)
    with state.locked():
        known = state.identity()
        if known is not None and not renew:
            who = f"{known.enrollment.worker} at {known.relay_url}"
            raise SettingsError(f"this machine is already enrolled as {who} (--renew replaces that)")
        relay_url = settings.relay_url or (known.relay_url if known else None)
        if relay_url is None:
            msg = "no relay is configured; set it: --relay https://relay.example.com"
            raise SettingsError(msg)
        token = _token(settings, use_stdin=True)
        try:
            identity = await enroll(
                relay_url, token, settings, state, pause=asyncio.sleep, tries=ENROLL_TRIES, on_retry=_print_retry
            )
        except CallError as error:
            is_refused = isinstance(error, Refused) and fate_of(error) is not Fate.RETRY
            print(f"edge-worker: not enrolled at {relay_url}: {error}", file=sys.stderr)
            return EXIT_REFUSED if is_refused else EXIT_UNREACHABLE
    enrollment = identity.enrollment
    print(f"Enrolled as {enrollment.worker} at site {enrollment.site}.")
    print(f"Queues: {', '.join(enrollment.settings.queues)}")
    print(trust_line(settings))
    options = f"--state-dir {shlex.quote(str(settings.state_dir))}"
    if settings.ca_file is not None:
        options += f" --ca-file {shlex.quote(str(settings.ca_file))}"
    if installed_airflow(settings.runtime_python) is None:
        print("There is no Airflow runtime here yet, so no task can run.")
        if not settings.commands:
            print(f"Next: edge-worker runtime install {options}")
    print(f"Next: edge-worker run {options}")
    return 0


def _print_retry(reason: str) -> None:
    print(f"edge-worker: no answer yet, trying again: {reason}", file=sys.stderr)


def _token(settings: Settings, *, use_stdin: bool) -> str:
    """The enrolment token, from a file, variable or input; not from an argument, which every local user can read."""
    file = settings.enroll_token_file
    if file is not None and file.name != "-":
        try:
            token = read_text_file(file).strip()
        except (OSError, NotText) as error:
            msg = f"enroll_token_file cannot be read: {error}"
            raise SettingsError(msg) from None
    elif settings.enroll_token is not None and file is None:
        token = settings.enroll_token.get_secret_value().strip()
    else:
        token = _token_from_stdin() if use_stdin else ""
    if not token or not token.isprintable() or " " in token:
        msg = "an enrolment token is needed: --token-file FILE, EDGE_WORKER_ENROLL_TOKEN or on standard input"
        raise SettingsError(msg)
    return token


def _token_from_stdin() -> str:
    """Reads the token; on a terminal with a prompt and without echo."""
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("Enrolment token: ").strip()
    try:
        return sys.stdin.readline().removeprefix("\ufeff").strip()
    except UnicodeDecodeError:
        msg = "the enrolment token on standard input is not UTF-8 text"
        raise SettingsError(msg) from None


async def _run(settings: Settings) -> int:
    from edge_worker.agent.enroll import enroll
    from edge_worker.agent.worker import Worker
    from edge_worker.relay.call_result import Refused
    from edge_worker.state.state import StateDir

    state = StateDir(settings.state_dir)
    state.prepare(settings.task_group)
    with state.locked():
        identity = state.identity()
        if identity is None:
            if settings.relay_url is None or (settings.enroll_token is None and settings.enroll_token_file is None):
                msg = "this machine is not enrolled; run: edge-worker enroll --relay https://relay.example.com"
                raise SettingsError(msg)
            token = _token(settings, use_stdin=False)
            try:
                identity = await enroll(
                    check_relay_url(settings.relay_url),
                    token,
                    settings,
                    state,
                    pause=asyncio.sleep,
                    on_retry=_print_retry,
                )
            except Refused as error:
                print(f"edge-worker: not enrolled at {settings.relay_url}: {error}", file=sys.stderr)
                return EXIT_REFUSED
        return await Worker(settings, state, identity).run()
