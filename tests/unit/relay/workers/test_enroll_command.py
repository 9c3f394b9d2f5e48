"""The command that enrols a machine is complete, and a shell runs it as it is meant."""

import subprocess
from pathlib import Path

import pytest

from edge_relay.gate.centre import Centre
from edge_relay.workers.enroll_command import EnrollCommand, enroll_command
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.signing.key_sets import fingerprint
from support.signing.keys import signing_centre

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIC\n-----END PRIVATE KEY-----"


def run(text: str, folder: Path) -> str:
    """What `edge-worker` gets: its arguments, its CA file and its standard input."""
    program = folder / "edge-worker"
    program.write_text('#!/bin/sh\necho "$@"; cat "$EDGE_WORKER_CA_FILE"; cat\n')
    program.chmod(0o700)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "EDGE_WORKER_CA_FILE": "/dev/null"}
    done = subprocess.run(["sh"], input=text, cwd=folder, env=environment, text=True, capture_output=True, check=True)
    return done.stdout


def test_with_address_ca_and_token(tmp_path: Path) -> None:
    text = EnrollCommand("https://relay.example.com", PEM).text("ere_1")
    assert run(text, tmp_path) == f"enroll --relay-url https://relay.example.com\n{PEM}\nere_1\n"


def test_the_key_that_signs_jobs_travels_with_the_token(tmp_path: Path) -> None:
    """Whoever is between worker and relay later can offer no other key."""
    centre, keys = Centre(None), signing_centre(tmp_path / "keys")
    command = EnrollCommand("https://relay.example.com", PEM, centre)
    assert "--signing-key" not in command.text("ere_1"), "no keeper has answered yet"
    centre._known = CentreFacts(airflow_version="3.3.2", python_version="3.12.1", signing_keys=keys.sets)
    named = f"enroll --relay-url https://relay.example.com --signing-key {fingerprint(keys.keys[0])}\n"
    assert run(command.text("ere_1"), tmp_path).startswith(named)


def test_an_address_is_no_code(tmp_path: Path) -> None:
    text = EnrollCommand("https://relay/$(touch${IFS}here);x").text("ere_1")
    assert "$(touch${IFS}here);x" in run(text, tmp_path)
    assert not (tmp_path / "here").exists()


def test_without_an_address_there_is_a_place_for_it() -> None:
    assert EnrollCommand().text() == "edge-worker enroll --relay-url https://RELAY:8443"


def test_only_certificates_of_the_file_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(f"subject=/CN=ours\n{KEY}\n{PEM}\nsubject=/CN=other\n{PEM}\n")
    assert enroll_command("https://r", path).ca_pem == f"{PEM}\n{PEM}"


@pytest.mark.parametrize("text", [KEY, "", "END\nrm -rf /\n"])
def test_a_file_without_a_certificate_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with pytest.raises(ValueError, match="RELAY_PUBLIC_CA_FILE"):
        enroll_command("https://r", path)
    with pytest.raises(ValueError, match="RELAY_PUBLIC_CA_FILE"):
        enroll_command("https://r", tmp_path / "missing.pem")
