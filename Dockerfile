# How to build and run it, and what is in it: docs/image.md.
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
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN pip --python /opt/gateway/bin/python wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/gateway/bin/python install --no-deps --no-index /wheels/*.whl \
 && pip --python /opt/gateway/bin/python uninstall --yes flit_core \
 && /opt/gateway/bin/gateway --version \
 && /opt/gateway/bin/python -c "from gateway.app.serve import require_c_parser; require_c_parser()"

# The stand-in for the container, for deploy/compose (`--target demo`). What it needs more is not in the gateway's image.
FROM build AS demo-build
COPY requirements/demo.txt requirements/demo.txt
RUN pip --python /opt/gateway/bin/python install --only-binary :all: --require-hashes -r requirements/demo.txt \
 && pip --python /opt/gateway/bin/python uninstall --yes flit_core

FROM ${BASE} AS demo
COPY --from=demo-build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/gateway/bin/python", "-m", "gateway.demo.container", "--host", "0.0.0.0"]

FROM ${BASE}
LABEL org.opencontainers.image.title="document-gateway" \
      org.opencontainers.image.description="The TLS gateway in front of Datalab's on-prem document-conversion container"
COPY --from=build /opt/gateway /opt/gateway
# By hand, for COPY makes a directory that anybody may read. A named volume takes over owner and mode.
RUN ["install", "-d", "-m", "0700", "-o", "10001", "-g", "10001", "/var/lib/gateway"]
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
