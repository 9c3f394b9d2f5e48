# The forward proxy of the profile `edge`. Built from the root of the repository.
ARG DEBIAN_IMAGE=debian:bookworm-slim

FROM ${DEBIAN_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends squid \
    && rm -rf /var/lib/apt/lists/*
COPY compose/squid/squid.conf /etc/squid/squid.conf
USER 13:13
EXPOSE 3128
ENTRYPOINT ["squid", "-N", "-f", "/etc/squid/squid.conf"]
