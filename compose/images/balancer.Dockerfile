# The load balancer in front of the relays. Built from the root of the repository.
ARG DEBIAN_IMAGE=debian:bookworm-slim

FROM ${DEBIAN_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends haproxy \
    && rm -rf /var/lib/apt/lists/*
COPY compose/balancer/haproxy.cfg /etc/haproxy/haproxy.cfg
USER 10005:10005
EXPOSE 8443
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]
