# A Bitcoin node to try Sluice with, built from source by the script that the tests use.
#   docker build -t sluice-node -f docker/node.Dockerfile .
# It is optimised for a short build and comes from the development tree. For real coins, run a release of Bitcoin Core.
FROM rust:1-bookworm AS build
ENV SLUICE_CACHE=/cache
COPY scripts/bitcoin-node scripts/debian-packages /src/scripts/
COPY scripts/node /src/scripts/node
RUN node=$(/src/scripts/bitcoin-node) \
 && install -D -t /out "$node" "$(dirname "$node")/bitcoin-cli" \
 && rm -rf /cache

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libcapnp-0.9.2 libstdc++6 \
 && rm -rf /var/lib/apt/lists/*
# /run/bitcoin holds the RPC cookie, readable by the group; Sluice mounts it and is in the group.
RUN groupadd --gid 10001 mining \
 && useradd --uid 10001 --gid mining --home-dir /var/lib/bitcoin --shell /usr/sbin/nologin bitcoin \
 && install -d -o bitcoin -g mining -m 0700 /var/lib/bitcoin \
 && install -d -o bitcoin -g mining -m 0750 /run/bitcoin
COPY --from=build /out/ /usr/local/bin/
USER bitcoin
WORKDIR /var/lib/bitcoin
VOLUME ["/var/lib/bitcoin", "/run/bitcoin"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["bitcoin-cli", "-conf=/etc/bitcoin.conf", "getblockcount"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["bitcoin-node", "-datadir=/var/lib/bitcoin", "-conf=/etc/bitcoin.conf"]
