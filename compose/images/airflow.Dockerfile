# Airflow with the bridge: for scheduler, api-server, dag-processor, triggerer and keeper.
# Built from the root of the repository. The packages of Airflow's own image are not changed.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS wheels
WORKDIR /src
COPY compose/images/requirements/build.txt ./
RUN pip install --no-cache-dir --require-hashes --requirement build.txt
COPY schemas schemas
COPY bridge bridge
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./bridge

FROM ${AIRFLOW_IMAGE}
COPY compose/images/requirements/bridge.txt /tmp/edge-relay/
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/edge-relay/bridge.txt
COPY --from=wheels /wheels/ /tmp/edge-relay/
RUN pip install --no-cache-dir --no-deps --no-index /tmp/edge-relay/*.whl \
    && python -c "import aiohttp, nats, edge_bridge.provider_info"
