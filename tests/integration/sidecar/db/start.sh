#!/bin/sh
# Make the database at the first start, then serve it. Only the notebook's network leads here.
set -eu
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
    initdb --pgdata "$data" --encoding UTF8 --auth trust >/dev/null
    echo "host all all all trust" >> "$data/pg_hba.conf"
    postgres --single -D "$data" postgres >/dev/null <<'SQL'
CREATE ROLE notebook LOGIN
SQL
    echo "CREATE DATABASE notebook OWNER notebook" | postgres --single -D "$data" postgres >/dev/null
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
