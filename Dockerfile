# syntax=docker/dockerfile:1 Katamari in a container: any role, by the command given to it, such as `master`, `manager
# --set manager.capacity=8`, `faceplate`.
#   docker build -t katamari .
#   docker run katamari --help

FROM node:20-bookworm-slim AS build
WORKDIR /app
# What is installed depends on these alone, so a changed source does not install anew. Scripts of packages are not
# run: none that is needed here has any, and our own would build before the sources are there.
COPY package.json package-lock.json ./
COPY examples/package.json examples/
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json tsconfig.examples.json ./
COPY scripts/build.mjs scripts/
COPY idl idl
COPY core core
COPY client client
COPY chassis-sdk chassis-sdk
COPY faceplates faceplates
COPY services services
COPY examples examples
RUN node scripts/build.mjs --examples \
  && rm -f dist/.tsbuildinfo* \
  && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:20-bookworm-slim
# An init is process 1. When a chassis is killed, what it had started becomes a child of process 1, and Node never
# waits for children that it did not start: they would stay as zombies until no process can be made any more. tini
# waits for them, and passes SIGTERM on to Katamari, which drains. When Katamari ends, however, so does tini, and with
# process 1 the kernel ends everything in the container.
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
# Thrift, JSON-RPC, stats, link.
EXPOSE 9090 9080 9081 9082 9070
# Alive, not ready: a process that waits for its chassis or drains is not to be killed.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["node", "/usr/local/lib/katamari/healthcheck.mjs", "livez"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "katamari"]
CMD ["--help"]
