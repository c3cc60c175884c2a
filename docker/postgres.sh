#!/bin/bash
# Starts Postgres on the data directory; makes it first when there is none: user and database `sluice`, password from
# $POSTGRES_PASSWORD, which is looked at only that once.
set -euo pipefail

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?is not set: the password of the database user sluice}"
    # Made aside and moved into place, so that an interrupted first start leaves nothing half-made behind.
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=sluice --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        --auth-local=scram-sha-256 --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    echo 'host all all all scram-sha-256' >>"$PGDATA.new/pg_hba.conf"
    echo 'CREATE DATABASE sluice' | postgres --single -D "$PGDATA.new" -j postgres
    mv "$PGDATA.new" "$PGDATA"
fi
unset POSTGRES_PASSWORD
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
