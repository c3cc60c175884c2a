# Debian's Postgres, the version that the tests run against, with one database for the ledger.
#   docker build -t sluice-postgres -f docker/postgres.Dockerfile .
# Any other Postgres from 15 on does as well: set `[ledger] url` and leave this image out.
FROM debian:bookworm-slim
# The package would make a cluster inside the image; ours is made in the volume, at the first start.
RUN install -d /etc/postgresql-common/createcluster.d \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/image.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql-15 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data \
 && install -d -o postgres -g postgres -m 2775 /run/postgresql
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data/15
COPY docker/postgres.sh /usr/local/bin/postgres.sh
USER postgres
VOLUME /var/lib/postgresql/data
EXPOSE 5432
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["pg_isready", "--quiet", "--host=127.0.0.1", "--dbname=sluice"]
# Fast shutdown: sessions are ended, the data is written out.
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/postgres.sh"]
