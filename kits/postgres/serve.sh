#!/bin/sh
# Ends the server quickly when the instance is stopped: the signal that stops an instance would have it wait for its clients.
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
postgres &
server=$!
trap 'kill -INT "$server"' TERM INT
while :; do
    wait "$server"
    code=$?
    kill -0 "$server" 2>/dev/null || exit "$code"
done
