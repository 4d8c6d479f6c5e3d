#!/bin/sh
# Stands where tests look for redis-server: starts Synapse ($SERVED_BY) on the port that is asked for, on a data directory
# of its own below $SERVED_FROM. Tests kill it, so what those before it left is removed here: each holds two segments, and
# together they fill a small disk.
port=0
while [ $# -gt 0 ]; do
  case "$1" in
    -v | --version) echo "Redis server v=7.2.0 sha=00000000:0 malloc=libc bits=64 build=0"; exit 0 ;;
    --port) port=$2; shift ;;
  esac
  shift
done
for data in "$SERVED_FROM"/data.*; do
  kill -0 "${data##*.}" 2>/dev/null || rm -rf "$data"
done
# The process that this becomes names the directory.
exec "$SERVED_BY" serve --listen 127.0.0.1:0 --resp-listen "127.0.0.1:$port" --data-dir "$SERVED_FROM/data.$$"
