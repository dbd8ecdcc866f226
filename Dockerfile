# hadolint global ignore=DL3042
# (The caches of pip are mounts, and not a part of the image.)
#
# Built with BuildKit: docker build -t anthropic-proxy .
# Another or a pinned base image: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
# Dependencies have separate layers, because they rarely change.
# pip is in every Python image and checks the hashes of the locks; uv would be one more download.
RUN python -m venv --without-pip /opt/venv && python -m venv /opt/builder
COPY requirements requirements
# Extras of the package, each with a lock of its additional dependencies. Several replicas need redis; otel is for traces.
ARG EXTRAS="redis otel"
RUN --mount=type=cache,target=/root/.cache/pip \
    for lock in runtime ${EXTRAS}; do \
      pip --python /opt/venv/bin/python install --no-deps --require-hashes --no-compile -r "requirements/${lock}.txt" || exit 1; \
    done
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/builder/bin/pip install --no-deps --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/builder/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/venv/bin/python install --no-deps --no-index --no-compile dist/*.whl \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
 && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="anthropic-proxy" \
      org.opencontainers.image.description="The Anthropic Messages API in front of any OpenAI-compatible server" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# /data is for keys and counters that outlive the container. Any user of group 0 may write there, as on OpenShift.
RUN groupadd --gid 10001 anthropic-proxy \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin anthropic-proxy \
 && install --directory --owner=10001 --group=0 --mode=0770 /data
COPY --from=build /opt/venv /opt/venv
COPY container/healthcheck.py /opt/healthcheck.py
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    HOST=0.0.0.0 \
    LOG_FORMAT=json
WORKDIR /data
USER 10001:0
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-I", "-S", "/opt/healthcheck.py"]
ENTRYPOINT ["anthropic-proxy"]
