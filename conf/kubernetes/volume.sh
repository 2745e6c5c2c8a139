#!/bin/sh
# What a pod does about its volume (epaxos.yaml).  sh volume.sh start|place
#
# A volume without data is that of a first start, or it came in the place of one that was lost. A replica without its data is another one,
# which may not vote in the name of the one before (docs/backup.md#a-directory-is-lost): it joins, and is put in that one's place.
set -eu
own=${EPAXOS_STORAGE_DIRECTORY:?}/${EPAXOS_REPLICA:?}
joins=$EPAXOS_STORAGE_DIRECTORY/joins # there while the replica is to join, and to be put in its place
told=${TMPDIR:-/tmp}/told

begun() { # Whether the cluster has: one that answers a read began with a volume of this pod that held something.
    for _ in $(seq "${TRIES:-5}"); do
        code=0
        epaxos get volume --timeout "${PATIENCE:-3s}" >"$told" 2>&1 || code=$?
        [ $code -gt 1 ] || return 0 # 1 is that there is no such key
        sleep 1
    done
    return 1
}

case $1 in
start)
    if [ -d "$own" ]; then
        echo "this volume holds the data of $EPAXOS_REPLICA"
    elif begun; then
        echo "the cluster has begun, and this volume is new: $EPAXOS_REPLICA joins"
        touch "$joins"
    else
        echo "nobody serves: $EPAXOS_REPLICA begins with the others. $(cat "$told")"
    fi
    if [ -e "$joins" ]; then exec epaxos serve --join; fi
    exec epaxos serve
    ;;
place) # Beside it. Only a member has a place; another pod waits for `epaxos member add`.
    until [ -d "$own" ]; do sleep 1; done
    [ -e "$joins" ] || exit 0
    for _ in $(seq 10); do
        if members=$(epaxos member list); then
            echo "$members" | grep -q "^$EPAXOS_REPLICA  *voter" || exit 0
            if epaxos member replace "$EPAXOS_REPLICA" "$EPAXOS_REPLICA" --timeout 60s; then
                rm "$joins"
                exit 0
            fi
        fi
        sleep 2
    done
    exit 1 # the pod is started again, and so is this
    ;;
*)
    echo "volume.sh: found $1; allowed: start, place" >&2
    exit 2
    ;;
esac
