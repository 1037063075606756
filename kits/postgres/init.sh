#!/bin/sh
# Makes the database when there is none. It has its name only when it is whole: a start that was cut off leaves nothing.
set -eu
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -s "$PGDATA/PG_VERSION" ] && exit 0
[ -n "${POSTGRES_PASSWORD:-}" ] || { echo "POSTGRES_PASSWORD is empty" >&2; exit 1; }
new=$PGDATA.new
rm -rf "$new"
umask 077
printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
initdb --pgdata "$new" --username postgres --pwfile /tmp/password --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8
rm -f /tmp/password
cat >> "$new/postgresql.conf" <<'CONF'
listen_addresses = '127.0.0.1'
unix_socket_directories = '/tmp'
max_connections = 50
CONF
mv "$new" "$PGDATA"
