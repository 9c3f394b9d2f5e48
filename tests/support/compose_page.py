"""The commands of `compose/README.md`, and what each must do with a stack that has images built already."""

from dataclasses import dataclass

from support.pages import Page

STOPPED = "docker compose stop relay keeper airflow-scheduler"
SAVED = "docker compose run --rm -T snapshot save > jetstream.tar"
EDGE = "docker compose --profile edge up --detach --wait"


@dataclass(frozen=True)
class Expected:
    """What a command must do.

    Attributes:
        prints: What its output has in it.
        may_fail: Whether another status than 0 is right: of a doctor that finds something, or of `--wait` for a service
            that runs once and ends, unless another one of the same command depends on it.
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
        "git clone … && cd …/compose": "the repository has no public address yet; the tests are in a clone",
        "docker run --detach --name edge-worker --init --restart unless-stopped "
        '--volume edge-state:/var/lib/edge-worker --volume "$PWD/ca.pem:/ca.pem:ro" --volume /srv/dags:/dags:ro '
        '--volume "$PWD/enroll.token:/enroll.token:ro" --env EDGE_WORKER_ENROLL_TOKEN_FILE=/enroll.token '
        '--env EDGE_WORKER_CA_FILE=/ca.pem --env EDGE_WORKER_BUNDLES=\'{"dags-folder": "/dags"}\' '
        "--env EDGE_WORKER_RELAY_URL=https://relay.example.com:8443 "
        "--env HTTPS_PROXY=http://proxy.example.com:3128 "
        "edge-relay/worker:0.1.0": "is for another machine, with its own name of the relay and its own proxy; the "
        "service edge-worker of tests/compose/test_core.py is the same image with the same variables",
        "git pull && docker compose build --pull": "a test does not update its own checkout, and an image named by "
        "IMAGE_... may be in no registry",
    },
)
