# The relay and its command line: Python and the relay's packages from requirements.lock; no shell, no package manager.
# Built from the root of the repository.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# Dependencies first: they change less often than our sources.
COPY compose/images/requirements/build.txt compose/images/requirements/relay.txt ./
RUN pip install --no-cache-dir --require-hashes --requirement build.txt \
    && python -m venv --without-pip /opt/edge-relay \
    && pip --python /opt/edge-relay/bin/python install --no-cache-dir --require-hashes --requirement relay.txt
COPY schemas schemas
COPY relay relay
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels ./schemas ./relay \
    && pip --python /opt/edge-relay/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY compose/images/rootfs.sh ./
RUN sh rootfs.sh /rootfs 10001 relay /opt/edge-relay

FROM scratch
COPY --from=build /rootfs/ /
ENV PATH=/opt/edge-relay/bin:/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8443 8444
ENTRYPOINT ["edge-relay"]
CMD ["serve"]
