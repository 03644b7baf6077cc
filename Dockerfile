# syntax=docker/dockerfile:1
#
# Image of Katamari. The command of the container selects the role: `master`, `faceplate`,
# `manager --set manager.capacity=8` and so on.
#
#   docker build -t katamari .
#   docker run katamari --help

FROM node:20-bookworm-slim AS build
WORKDIR /app
# Only these files determine what is installed, so a change of the sources keeps the cached layer. Install scripts are
# off: no package here needs one, and Katamari's own would start a build before the sources are copied.
COPY package.json package-lock.json ./
COPY examples/package.json examples/
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json tsconfig.examples.json ./
COPY scripts/build.mjs scripts/
COPY idl idl
COPY core core
COPY client client
COPY chassis-sdk chassis-sdk
COPY content-servers content-servers
COPY faceplates faceplates
COPY services services
COPY examples examples
RUN node scripts/build.mjs --examples \
  && rm -f dist/.tsbuildinfo* \
  && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:20-bookworm-slim
# Process 1 is an init, tini. When a chassis is killed, its child processes become children of process 1. Node does not
# reap children that it did not start, so they would stay as zombies until the process table is full. tini reaps them
# and forwards SIGTERM to Katamari, which drains. When Katamari exits, tini exits too, and the kernel then kills every
# process that is left in the container.
RUN apt-get update \
  && apt-get install -y --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* \
  && install -d -o node -g node -m 0700 /var/lib/katamari
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY deploy/healthcheck.mjs /usr/local/lib/katamari/
COPY deploy/katamari.yaml /etc/katamari/katamari.yaml
RUN chmod 755 dist/services/cli/main.js && ln -s /app/dist/services/cli/main.js /usr/local/bin/katamari
ENV NODE_ENV=production \
  KATAMARI_CONFIG=/etc/katamari/katamari.yaml
USER node
VOLUME /var/lib/katamari
# Thrift, JSON-RPC, stats, web applications, link.
EXPOSE 9090 9080 9081 9082 9070
# Liveness, not readiness: a process that starts its chassis or drains is not ready, and must not be restarted.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["node", "/usr/local/lib/katamari/healthcheck.mjs", "livez"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "katamari"]
CMD ["--help"]
