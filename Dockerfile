# syntax=docker/dockerfile:1
# Plain steps on a glibc base, so that each can be walked by hand in a clean Debian tree.
# The claude-agent-sdk wheel holds the CLI (381 MB), built for glibc only: no Alpine.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/postroom
COPY requirements/ /src/requirements/
# The CLI's own layer: it changes only when its pinned version does.
RUN grep -A200 '^claude-agent-sdk==' /src/requirements/run.txt | awk 'NR>1 && /^[a-z]/ {exit} {print}' > /src/cli.txt \
 && /opt/postroom/bin/pip install --no-deps --require-hashes --target /opt/cli -r /src/cli.txt
RUN /opt/postroom/bin/pip install --require-hashes -r /src/requirements/run.txt -r /src/requirements/build.txt \
 && rm -rf /opt/postroom/lib/python3.13/site-packages/claude_agent_sdk \
 && rm -rf /opt/postroom/lib/python3.13/site-packages/claude_agent_sdk-*.dist-info
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY daemon/ /src/daemon/
COPY connectors/ /src/connectors/
RUN /opt/postroom/bin/pip install --no-deps --no-build-isolation /src

FROM python:3.13-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git ripgrep tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin postroom \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/cli/ /opt/postroom/lib/python3.13/site-packages/
COPY --from=build /opt/postroom/ /opt/postroom/
ENV PATH=/opt/postroom/bin:$PATH POSTROOM_CONFIG=/etc/postroom/postroom.toml \
    POSTROOM__DAEMON__DATA_DIR=/data PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["postroom", "status", "--check"]
ENTRYPOINT ["tini", "--", "postroom"]
CMD ["run"]
