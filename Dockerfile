# How to run it, and how it reaches the container: README.md, "As an image".
# Pinned by tag, so that a rebuild brings the base's security updates; to pin a digest is the operator's choice.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The venv has no pip: the base's one fills it from here.
COPY requirements/serve.txt requirements/serve.txt
RUN python -m venv --without-pip /opt/gateway \
 && pip --python /opt/gateway/bin/python install --only-binary :all: --require-hashes -r requirements/serve.txt
# flit_core is in serve.txt with its hash: it builds the wheel, and what runs does without it. Then a look at whether the
# command runs and aiohttp has its C extension.
COPY pyproject.toml README.md ./
COPY gateway gateway
RUN pip --python /opt/gateway/bin/python wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/gateway/bin/python install --no-deps --no-index /wheels/*.whl \
 && pip --python /opt/gateway/bin/python uninstall --yes flit_core \
 && /opt/gateway/bin/gateway --version \
 && /opt/gateway/bin/python -c "from gateway.app import require_c_parser; require_c_parser()" \
 && mkdir -m 0700 /state

FROM ${BASE}
LABEL org.opencontainers.image.title="document-gateway" \
      org.opencontainers.image.description="The TLS gateway in front of Datalab's on-prem document-conversion container"
COPY --from=build /opt/gateway /opt/gateway
COPY --from=build --chown=10001:10001 /state /var/lib/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Mount the configuration at /etc/gateway, readable by this uid; the ledger's default place is ./data/ledger.db: keep it
# by a volume here, writable by this uid.
WORKDIR /var/lib/gateway
USER 10001:10001
EXPOSE 8443 9090
STOPSIGNAL SIGTERM
# Override it when admin.port is another or admin.tls is on.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/opt/gateway/bin/python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 9090, timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/gateway/bin/gateway", "serve", "--config", "/etc/gateway/gateway.yaml"]
