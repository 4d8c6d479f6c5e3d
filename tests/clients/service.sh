#!/bin/bash
# A job of the platform in a shell, on redis-cli: publishes flat events, consumes as one of a group, and takes over what
# others left. Goes on over restarts of the server.
#
#     service.sh PORT NAME COUNT FOLDER
#
# Publishes COUNT events, notes in FOLDER/NAME what was acknowledged and what was consumed, and ends once FOLDER/stop is there.
set -u
port=$1 name=$2 count=$3 folder=$4
stream=platform-events group=analytics-service

# What the command answers, given again while there is no server.
ask() {
  local answer tries
  for ((tries = 0; tries < 300; tries++)); do
    if answer=$(redis-cli -e -p "$port" "$@" 2>&1); then
      echo "$answer"
      return
    fi
    [[ $answer == BUSYGROUP* ]] && return
    sleep 0.1
  done
  exit 1
}

# Entries with their fields, a line each: notes and acknowledges each one. An id is followed by the field `event`.
handle() {
  local line id='' field=''
  while read -r line; do
    [[ $line =~ ^[0-9]+-[0-9]+$ ]] && id=$line
    if [[ $field == request_id ]]; then
      echo "consumed $stream $id $line" >>"$folder/$name"
      ask XACK "$stream" "$group" "$id" >/dev/null
    fi
    field=$line
  done
}

publish() {
  local n id
  for ((n = 0; n < count; n++)); do
    id=$(ask XADD "$stream" MAXLEN '~' 100000 '*' event task-completed request_id "$name-$n" source external-bridge) || exit 1
    echo "published $stream $id $name-$n" >>"$folder/$name"
    sleep 0.02
  done
}

ask XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null
publish &
cursor=0-0
while [[ ! -e $folder/stop ]]; do
  ask XREADGROUP GROUP "$group" "$name" COUNT 5 BLOCK 500 STREAMS "$stream" '>' | handle
  claimed=$(ask XAUTOCLAIM "$stream" "$group" "$name" 1000 "$cursor" COUNT 5) || exit 1
  cursor=${claimed%%$'\n'*}
  handle <<<"${claimed#*$'\n'}"
done
wait
