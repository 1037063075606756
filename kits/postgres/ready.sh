#!/bin/sh
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
exec pg_isready --quiet --host 127.0.0.1 --username postgres
