"""Runs first at each start: creates the missing secrets and copies each to the parts that need it.

The vault, a volume that only this program mounts, holds all secrets. Each part of the system has a volume of its own
with copies of the secrets that it needs, readable by its user only. To replace a secret, delete it from the vault and
start again.

    first_start.py            the usual start
    first_start.py cluster    three NATS servers from now on
"""

import base64
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, OPERATOR, PUBLISHER, READER, RELAY, ROLES
from edge_relay.standalone import tls
from edge_relay.standalone.nats_config import Node, render_config
from edge_schemas.wire.workers import SecretKind, new_secret
from edge_service.private_files import make_private_dir, read_or_create, write_file
from edge_service.signing import key_files

VOLUMES = Path("/volumes")
VAULT = VOLUMES / "vault"
OWN_TLS = Path("/own-tls")
NODES = ("nats-1", "nats-2", "nats-3")
READ_ONLY = 0o400
USER = "admin"


@dataclass(frozen=True)
class Owner:
    """The user and group that may read the files in a volume."""

    uid: int
    gid: int


ROOT, RELAY_USER, NATS_USER, PEOPLE = Owner(0, 0), Owner(10001, 10001), Owner(10002, 10002), Owner(10003, 10003)
WORKER_USER, AIRFLOW_USER, GRAFANA_USER = Owner(10004, 10004), Owner(50000, 0), Owner(472, 0)


def main(words: list[str]) -> int:
    """Create and distribute the secrets; returns the exit status."""
    if words not in ([], ["cluster"]):
        print(__doc__, file=sys.stderr)
        return 2
    make_private_dir(VAULT)
    if words:
        write_file(VAULT / "cluster", b"three NATS servers\n")
    passwords = {role: _secret(f"{role}.password", _random) for role in ROLES}
    _nats(passwords)
    tls_files = _tls_files()
    _relay(tls_files, passwords)
    _airflow(passwords)
    _people(passwords, ca=tls_files["ca.pem"].read_text())
    _write_files("grafana", GRAFANA_USER, {"admin.password": _secret("grafana.password", _short)})
    for volume in VOLUMES.glob("nats*-data"):
        _own(volume, NATS_USER)
    print(_greeting(), flush=True)
    return 0


def _random() -> str:
    return secrets.token_urlsafe(32)


def _signing() -> str:
    """As long as the digest of HS512, the algorithm with which Airflow signs tokens."""
    return secrets.token_urlsafe(64)


def _short() -> str:
    """For people to type."""
    return secrets.token_urlsafe(12)


def _fernet() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _secret(name: str, make: Callable[[], str]) -> str:
    return read_or_create(VAULT / name, make())


def _nats(passwords: Mapping[str, str]) -> None:
    """One configuration for a single server, or one for each of three; a cluster stays a cluster."""
    room = int(os.environ["NATS_MAX_STORE_MB"]) << 20

    def config(node: Node | None) -> str:
        return render_config(
            host="0.0.0.0",
            port=4222,
            # Separate folders: a cluster does not use the data of a single server, and would remove it.
            store_dir=Path("/data/single" if node is None else "/data/cluster"),
            passwords=passwords,
            monitor="0.0.0.0:8222",
            max_store_bytes=room,
            node=node,
        )

    if not _is_cluster():
        _write_files("nats-1", NATS_USER, {"nats.conf": config(None)})
        return
    password = _secret("cluster.password", _random)
    for name in NODES:
        if (VOLUMES / name).is_dir():
            _write_files(name, NATS_USER, {"nats.conf": config(Node(name, NODES, password))})


def _is_cluster() -> bool:
    return (VAULT / "cluster").exists()


def _relay(files: Mapping[str, Path], passwords: Mapping[str, str]) -> None:
    texts = {name: path.read_text() for name, path in files.items()}
    texts |= {"nats.password": passwords[RELAY], "gate.secret": _secret("gate.secret", _random)}
    _write_files("relay", RELAY_USER, texts)
    # A worker needs the CA to trust the relay, and operators are shown it.
    # The enrolment token is written later, if the profile `edge` is used.
    _write_files("edge", WORKER_USER, {"ca.pem": files["ca.pem"].read_text()})


def _tls_files() -> Mapping[str, Path]:
    """The user's own certificate, if there is one, otherwise a certificate of a CA that is created here."""
    own = {name: OWN_TLS / name for name in ("ca.pem", "relay.pem", "relay.key")}
    missing = [name for name, path in own.items() if not path.is_file()]
    if not missing:
        return own
    if len(missing) < len(own):
        raise SystemExit(f"TLS_DIR has no {' and no '.join(missing)}: put {', '.join(own)} there, or none of them")
    hosts = ["edge-relay", "relay", "localhost", "127.0.0.1", "::1"]
    hosts += [host.strip() for host in os.environ["TLS_HOSTS"].split(",") if host.strip()]
    made = tls.ensure(VAULT / "tls", hosts, now=datetime.now(UTC))
    return {"ca.pem": made.ca_cert, "relay.pem": made.cert, "relay.key": made.key}


def _airflow(passwords: Mapping[str, str]) -> None:
    database = _secret("postgres.password", _random)
    _write_files("postgres", ROOT, {"password": database})
    texts = {f"{role}.password": passwords[role] for role in (EXECUTOR, KEEPER, READER, PUBLISHER)}
    texts |= {
        "gate.secret": _secret("gate.secret", _random),
        "operators.token": _airflow_token(),
        **_signing_files(),
        "fernet.key": _secret("fernet.key", _fernet),
        "jwt.secret": _secret("jwt.secret", _signing),
        "api.secret": _secret("api.secret", _random),
        "database.url": f"postgresql+psycopg2://airflow:{database}@postgres/airflow",
    }
    _write_files("airflow", AIRFLOW_USER, texts)
    # Airflow's simple auth manager opens this file for writing, so it has a volume of its own.
    login = json.dumps({USER: _secret("airflow.password", _short)})
    _write_files("login", AIRFLOW_USER, {"passwords.json": login}, mode=0o600)
    _own(VOLUMES / "airflow-logs", AIRFLOW_USER)


def _signing_files() -> Mapping[str, str]:
    """The key that signs jobs, and what workers may know of it."""
    files = VAULT / key_files.KEY_FILE, VAULT / key_files.KEYS_FILE
    key_files.create(*files, datetime.now(UTC))
    return {path.name: path.read_text() for path in files}


def _people(passwords: Mapping[str, str], *, ca: str) -> None:
    """Files for the `nats` command line and `edge-relay` as operator; in another volume the files for admin."""
    context = {
        "description": "Edge Relay, as operator",
        "url": "nats://nats:4222",
        "user": OPERATOR,
        "password": passwords[OPERATOR],
        "inbox_prefix": f"_INBOX_{OPERATOR}",
    }
    _write_files(
        "people",
        PEOPLE,
        {
            "nats/context/edge.json": json.dumps(context),
            "nats/context.txt": "edge",
            "operator.password": passwords[OPERATOR],
            "ca.pem": ca,
            "access.token": _secret("access.token", lambda: new_secret(SecretKind.ACCESS)),
        },
    )
    # Not for everyday work: for streams, restoring and access tokens.
    texts = {"admin.password": passwords[ADMIN], "replicas": str(len(NODES) if _is_cluster() else 1)}
    _write_files("admin", PEOPLE, texts | {"operators.token": _airflow_token()})


def _airflow_token() -> str:
    """With which the page in Airflow's UI calls the relay."""
    return _secret("operators.token", lambda: new_secret(SecretKind.ACCESS))


def _write_files(volume: str, owner: Owner, texts: Mapping[str, str], *, mode: int = READ_ONLY) -> None:
    """Write files into a volume, for one user."""
    folder = VOLUMES / volume
    _own(folder, owner, mode=0o500 if mode == READ_ONLY else 0o700)
    for name, text in texts.items():
        path = folder / name
        for parent in reversed(path.parents[: len(Path(name).parts) - 1]):
            parent.mkdir(exist_ok=True)
            _own(parent, owner, mode=0o500)
        if not path.exists() or path.read_text() != text:
            write_file(path, text.encode(), mode=mode)
        _own(path, owner, mode=mode)


def _own(path: Path, owner: Owner, *, mode: int | None = None) -> None:
    """Set mode and owner of a file or folder; the mode first, since only the owner may change it."""
    if mode is not None:
        path.chmod(mode)
    shutil.chown(path, owner.uid, owner.gid)


def _greeting() -> str:
    return f"""
Secrets and certificates are in place.
  Airflow   user {USER}, password by:  docker compose run --rm secret airflow.password
  Grafana   user {USER}, password by:  docker compose run --rm secret grafana.password
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
