"""The commands of `compose/README.md`, and the expected result of each on a stack whose images are built."""

from dataclasses import dataclass

from support.pages.pages import Page

STOPPED = "docker compose stop relay keeper airflow-scheduler"
SAVED = "docker compose run --rm -T snapshot save > jetstream.tar"
EDGE = "docker compose --profile edge up --detach --wait"


@dataclass(frozen=True)
class Expected:
    """The expected result of a command.

    Attributes:
        prints: A text that the output must contain.
        may_fail: Whether a status other than 0 is accepted: from a doctor that finds a fault, or from `--wait` with a
            service that runs once and ends, unless another service in the same command depends on it.
    """

    prints: str = ""
    may_fail: bool = False


WELL = Expected()
COMPOSE = Page(
    "compose/README.md",
    {
        "docker compose up --detach --wait": WELL,
        EDGE: WELL,
        "docker compose run --rm secret airflow.password": WELL,
        "docker compose run --rm secret grafana.password": WELL,
        "docker compose exec airflow-scheduler airflow edge-relay doctor": Expected("ok         nats", may_fail=True),
        "docker compose exec relay edge-relay doctor": Expected("ok         nats", may_fail=True),
        "docker compose exec edge-worker edge-worker doctor": Expected("ok         proxy", may_fail=True),
        "docker compose --profile toolbox up --detach toolbox": WELL,
        "docker compose exec toolbox nats consumer report EDGE_JOBS": WELL,
        "docker compose run --rm cli enroll-token create --queues plant --site plant-7": Expected("ere_"),
        "docker compose run --rm -T secret tls/ca.pem > ca.pem": WELL,
        SAVED: WELL,
        STOPPED: WELL,
        "docker compose run --rm -T snapshot restore < jetstream.tar": WELL,
        "docker compose start relay keeper airflow-scheduler": WELL,
        "docker compose exec -T postgres pg_dump -U airflow airflow > airflow.sql": WELL,
        "docker run --rm -v edge-relay_vault:/vault:ro debian:bookworm-slim tar -C /vault -c . > vault.tar": WELL,
        "docker compose --profile ha up --detach --wait nats nats-2 nats-3 provision": Expected(may_fail=True),
        "docker compose --profile ha run --rm -T snapshot restore < jetstream.tar": WELL,
        "docker compose --profile ha up --detach --wait": WELL,
        "docker compose --profile '*' down": WELL,
        "docker compose --profile '*' down --volumes": WELL,
    },
    {
        "git clone … && cd …/compose": "the repository has no public address yet; the tests run in a clone",
        "docker run --detach --name edge-worker --init --restart unless-stopped "
        '--volume edge-state:/var/lib/edge-worker --volume "$PWD/ca.pem:/ca.pem:ro" '
        '--volume "$PWD/enroll.token:/enroll.token:ro" --env EDGE_WORKER_ENROLL_TOKEN_FILE=/enroll.token '
        "--env EDGE_WORKER_CA_FILE=/ca.pem "
        "--env EDGE_WORKER_RELAY_URL=https://relay.example.com:8443 "
        "--env HTTPS_PROXY=http://proxy.example.com:3128 "
        "edge-relay/worker:0.1.0": "runs on another machine, with another host name of the relay and another proxy; "
        "tests/compose/test_core.py runs the same image with the same variables as service edge-worker",
        **dict.fromkeys(
            (
                "export COMPOSE_FILE=compose.yaml:without-airflow.yaml EDGE_COMMANDS=uname,sh",
                "docker compose run --rm cli submit --queue plant -- uname -s",
                (
                    "docker compose run --rm cli tokens create --name shop --role producer --queues plant "
                    '--reason "orders of the shop"'
                ),
            ),
            "tests/compose/test_without_airflow.py runs them with these files",
        ),
        "git pull && docker compose build --pull": "a test does not update its own checkout, and the images of "
        "IMAGE_... may exist only on this machine",
    },
)
