# The edge worker, thin (target `thin`, no Airflow) or with the runtime that Airflow tasks need (target `airflow`).
# Built from the root of the repository.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS agent
WORKDIR /src
# Dependencies first: they change less often than our sources.
COPY compose/images/requirements/build.txt compose/images/requirements/worker.txt ./
RUN pip install --no-cache-dir --require-hashes --requirement build.txt \
    && python -m venv --without-pip /opt/edge-worker \
    && pip --python /opt/edge-worker/bin/python install --no-cache-dir --require-hashes --requirement worker.txt
COPY schemas schemas
COPY edge_worker edge_worker
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./edge_worker \
    && pip --python /opt/edge-worker/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && mkdir -p /state
COPY compose/images/rootfs.sh ./
# A shell and its everyday tools: tasks use them once a runtime is installed.
RUN sh rootfs.sh /rootfs 10004 edge /opt/edge-worker \
        bash sh env cat cp cut date df dirname basename echo expr false grep head hostname id ln ls mkdir mktemp mv nproc \
        printf pwd readlink rm rmdir sed sleep sort stat tail tee test touch tr true uname uniq wc

FROM scratch AS thin
COPY --from=agent /rootfs/ /
COPY --from=agent --chown=10004:10004 /state/ /var/lib/edge-worker/
ENV PATH=/opt/edge-worker/bin:/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    HOME=/var/lib/edge-worker \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONUNBUFFERED=1 \
    EDGE_WORKER_STATE_DIR=/var/lib/edge-worker
USER 10004:10004
ENTRYPOINT ["edge-worker"]
CMD ["run"]

FROM ${PYTHON_IMAGE} AS runtime
WORKDIR /src
COPY compose/images/requirements/runtime.txt ./
RUN python -m venv --without-pip /opt/airflow \
    && pip --python /opt/airflow/bin/python install --no-cache-dir --require-hashes --requirement runtime.txt

FROM ${PYTHON_IMAGE} AS airflow
# Airflow does not run as a user without a name.
RUN useradd --uid 10004 --user-group --home-dir /var/lib/edge-worker --no-create-home --no-log-init edge
COPY --from=runtime /opt/airflow /opt/airflow
COPY --from=agent /opt/edge-worker /opt/edge-worker
COPY --from=agent --chown=10004:10004 /state/ /var/lib/edge-worker/
ENV PATH=/opt/edge-worker/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/var/lib/edge-worker \
    PYTHONUNBUFFERED=1 \
    EDGE_WORKER_STATE_DIR=/var/lib/edge-worker \
    EDGE_WORKER_RUNTIME_PYTHON=/opt/airflow/bin/python
USER 10004:10004
ENTRYPOINT ["edge-worker"]
CMD ["run"]
