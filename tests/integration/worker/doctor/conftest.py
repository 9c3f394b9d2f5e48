"""One relay for all broken set-ups, and a machine in order for each of them."""

import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from edge_schemas.gate.centre import CentreFacts
from support.doctor.examination import Patient
from support.network.certificates import Certificates, make_certificates
from support.relay.edge import Edge, running_edge
from support.relay.fake_gate import KEY, running_gate


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def centre(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """A relay whose keeper says that the centre has Airflow 3.3.2."""
    folder = tmp_path_factory.mktemp("centre")
    secret = folder / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate:
        gate.body = CentreFacts(airflow_version="3.3.2", python_version="3.12.1").model_dump_json().encode()
        async with running_edge(folder, gate_urls=(gate.url,), gate_key_file=secret) as edge:
            yield edge


@dataclass(frozen=True)
class Relay:
    """How the relay is reached."""

    edge: Edge
    url: str
    port: int
    ca: Path

    @property
    def trusted(self) -> ssl.SSLContext:
        """For what stands in front of it."""
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture
def relay(centre: Edge) -> Relay:
    url = centre.relays[0].workers_url
    return Relay(centre, url, int(url.rpartition(":")[2]), centre.ca)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of somebody else than the relay."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), authority="Acme Root")


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    """Not enrolled; its relay's name and authority are for the test to say."""
    short = Path(tempfile.mkdtemp(prefix="ew-"))
    made = Patient(tmp_path, short)
    made.prepare()
    yield made
    shutil.rmtree(short)


@pytest_asyncio.fixture(loop_scope="session")
async def worker(patient: Patient, relay: Relay) -> Patient:
    """A machine that is enrolled, with all in order."""
    patient.enrolled(await relay.edge.worker(), relay.url)
    patient.environment["EDGE_WORKER_CA_FILE"] = str(relay.ca)
    return patient
