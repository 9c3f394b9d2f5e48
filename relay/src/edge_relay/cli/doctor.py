"""`edge-relay doctor`."""

import asyncio
import sys
from argparse import Namespace
from pathlib import Path

from pydantic import ValidationError

from edge_broker.permissions import ADMIN, OPERATOR, RELAY
from edge_relay.cli.output import EXIT_FAILED, EXIT_USAGE, Failure
from edge_relay.doctor.checks import examine_relay
from edge_relay.doctor.settings_checks import SETTINGS, Target
from edge_relay.http.bodies import explain
from edge_relay.settings import Settings, SettingsError
from edge_relay.standalone.info import read_info
from edge_service.findings import Finding, as_json, as_text, exit_status, failed

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # nothing is bound


def doctor(options: Namespace) -> None:
    """`doctor`. Exits with 1 if something failed."""
    try:
        target = _target(options)
    except (SettingsError, ValidationError) as error:
        detail = explain(error) if isinstance(error, ValidationError) else str(error)
        text = "Correct it; 'edge-relay serve --help' lists all settings."
        if options.data_dir is not None:
            text = (
                f"Start 'edge-relay standalone --data-dir {options.data_dir}': its data folder then says where it is."
            )
        found = [failed(SETTINGS, detail, text)]
        if not options.json:
            print(as_text(found[0]))
    else:
        found = asyncio.run(_examine(target, quiet=options.json))
    if options.json:
        print(as_json(found))
    sys.stdout.flush()
    if exit_status(found):
        raise SystemExit(EXIT_FAILED)


async def _examine(target: Target, *, quiet: bool) -> list[Finding]:
    found = []
    async for finding in examine_relay(target):
        found.append(finding)
        if not quiet:
            print(as_text(finding), flush=True)
    return found


def _target(options: Namespace) -> Target:
    given = {name: value for name in Settings.model_fields if (value := getattr(options, name)) is not None}
    people = {ADMIN: options.admin_password_file, OPERATOR: options.operator_password_file}
    named = {role: path for role, path in people.items() if path is not None}
    if options.data_dir is not None:
        return _standalone(options, given, named)
    settings = Settings(**given)
    scheme = "https" if settings.tls_cert_file else "http"
    return Target(
        settings,
        _url(scheme, settings.host, settings.port),
        _url("http", settings.operators_host, settings.operators_port),
        settings.public_url,
        options.ca_file or settings.public_ca_file,
        named,
    )


def _standalone(options: Namespace, given: dict[str, str], people: dict[str, Path]) -> Target:
    """The relay that is up with a data folder: its `standalone.json` names addresses and files."""
    if unwanted := sorted(given.keys() - {"gate_urls", "public_url"}):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unwanted)
        raise Failure(f"--data-dir excludes {names}: the standalone relay has its own settings", EXIT_USAGE)
    data_dir: Path = options.data_dir
    info = read_info(data_dir)
    # With the secret: gates are not accepted without it.
    base = Settings(**given, gate_key_file=info.gate_secret_file)  # type: ignore[arg-type]  # text, as from the environment
    gate_urls = base.gate_urls or info.gate_urls
    own: dict[str, object] = {
        "tls_cert_file": data_dir / "tls" / "relay.pem",
        "tls_key_file": data_dir / "tls" / "relay.key",
        "nats_urls": (info.nats_url,),
        "nats_password_file": info.secrets_dir / f"{RELAY}.password",
        "nats_ca_file": None,
        "gate_urls": gate_urls,
        "gate_key_file": info.gate_secret_file,
    }
    for role in (ADMIN, OPERATOR):
        people.setdefault(role, info.secrets_dir / f"{role}.password")
    return Target(
        Settings.model_validate({**dict(base), **own}),
        info.workers_url or info.relay_url,
        info.operator_url,
        options.public_url or info.relay_url,
        options.ca_file or info.ca_file,
        people,
    )


def _url(scheme: str, host: str, port: int) -> str | None:
    """The address of a listener from this machine; None if the system chooses the port."""
    name = _WILDCARDS.get(host, host)
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}" if port else None
