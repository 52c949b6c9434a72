# syntax=docker/dockerfile:1
# Plain steps on Debian's own Python, so that `make image-check` can walk each of them in a clean
# Debian tree without a container engine. The claude CLI in the SDK's wheel needs glibc: no Alpine.

FROM debian:12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
RUN python3 -m venv /opt/postroom
COPY requirements/ /src/requirements/
RUN /opt/postroom/bin/pip install --require-hashes -r /src/requirements/run.txt -r /src/requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY daemon/ /src/daemon/
COPY connectors/ /src/connectors/
RUN /opt/postroom/bin/pip install --no-deps --no-build-isolation /src
# The CLI's binary (381 MB) goes into a layer of its own: it changes only when its pin does.
RUN install -d /opt/cli \
 && mv /opt/postroom/lib/python3.11/site-packages/claude_agent_sdk/_bundled /opt/cli/

FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git python3 ripgrep tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin postroom \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/cli/ /opt/postroom/lib/python3.11/site-packages/claude_agent_sdk/
COPY --from=build /opt/postroom/ /opt/postroom/
ENV PATH=/opt/postroom/bin:/usr/local/bin:/usr/bin:/bin POSTROOM__DAEMON__DATA_DIR=/data PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["postroom", "status", "--check"]
ENTRYPOINT ["tini", "--", "postroom"]
CMD ["run"]
