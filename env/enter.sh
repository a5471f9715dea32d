#!/bin/sh
# Runs COMMAND in the environment:  enter.sh ENVIRONMENT FOLDER [HOST_PATH...] -- COMMAND...
# Three more kinds stand among the paths: gpu=BUILD, what gpu.sh has made, driver=NAME=HOST_PATH, a file of the host's
# driver, and torch=FOLDER, what pytorch.py has installed.
# ../fer starts this as process 1 of a mount and a PID namespace of its own: all that
# is mounted here ends with it, whichever way it ends.
# FER_CA: the host's file of CA certificates, which takes the place of the environment's.
# Inside, usr, bin, sbin, lib* and etc are the environment's; every other folder is the
# host's, at the same place, so a path means the same on both sides.
set -eu
env=$1 cwd=$2
shift 2
new=$env/mnt
read_only() { mount -o remount,bind,ro "$1" 2>/dev/null || :; }

mount -t tmpfs -o mode=755 fer "$new"
# The host's folders are bound in with all that is mounted below them, which must not
# draw in the new root itself where the environment lies below them too.
mount --make-unbindable "$new"

for dir in "$env"/usr "$env"/bin "$env"/sbin "$env"/lib* "$env"/etc; do
    at=$new/${dir##*/}
    if [ -L "$dir" ]; then
        cp -P "$dir" "$at"
    elif [ -d "$dir" ]; then
        mkdir "$at"
        mount --bind "$dir" "$at"
        read_only "$at"
    fi
done
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -e "$file" ] || mount --bind "$file" "$new$file"
done
# The certificates that the host trusts: a network may need one of its own.
[ -z "${FER_CA:-}" ] || mount --bind "$FER_CA" "$new/etc/ssl/certs/ca-certificates.crt"
unset FER_CA
# A user's HOME may be read-only; what matplotlib knows about fonts goes here.
mkdir "$new/caffe-fer-cache"
mount -t tmpfs -o mode=1777,size=64m fer "$new/caffe-fer-cache"
cp -r "$env/caffe-fer-cache/." "$new/caffe-fer-cache"

mkdir "$new/proc"
# Some containers hide parts of /proc, and then forbid a fresh one.
mount -t proc proc "$new/proc" 2>/dev/null || mount --rbind /proc "$new/proc"

# Process numbers begin anywhere: LMDB knows a database's readers by them, and refuses one of a number that reads it
# already, be it of another call; glog names files in /tmp by them. A system that does not allow it begins at 1.
start=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')
{ echo $((300 + start % 30000)) >"$new/proc/sys/kernel/ns_last_pid"; } 2>/dev/null || :

for dir in /* /.[!.]*; do
    at=$new$dir
    if [ -e "$at" ] || [ -L "$at" ]; then
        continue
    elif [ -L "$dir" ]; then
        cp -P "$dir" "$at"
    elif [ -d "$dir" ]; then
        mkdir "$at"
        mount --rbind "$dir" "$at" || echo "fer: $dir cannot be shown inside" >&2
    elif [ -f "$dir" ]; then
        : >"$at"
        mount --bind "$dir" "$at" || rm "$at"
    fi
done
while [ "$1" != -- ]; do
    case $1 in
    gpu=*)
        # Only Caffe's own program and its Python module are replaced; they know where their libraries are.
        build=$new/caffe-fer-gpu
        mkdir "$build"
        mount --bind "${1#gpu=}" "$build"
        read_only "$build"
        mount --bind "$build/bin/caffe" "$new/usr/bin/caffe"
        mount --bind "$build/python/_caffe.so" "$(echo "$new"/usr/lib/python3/dist-packages/caffe/_caffe.*.so)"
        ;;
    driver=*)
        file=${1#driver=}
        at=$new/caffe-fer-driver/${file%%=*}
        mkdir -p "$new/caffe-fer-driver"
        : >"$at"
        mount --bind "${file#*=}" "$at"
        read_only "$at"
        ;;
    torch=*)
        mkdir "$new/caffe-fer-torch"
        mount --bind "${1#torch=}" "$new/caffe-fer-torch"
        read_only "$new/caffe-fer-torch"
        ;;
    *)
        mount --rbind "$1" "$new$1"
        ;;
    esac
    shift
done
shift
# Otherwise what is written into a new folder directly below / would vanish in the end.
read_only "$new"

# Not exec: this shell stays as process 1, gathers orphans and hands the status on. Ctrl-C reaches it as well, and it
# must not end before the command does, which may have a snapshot to write, or with a status of its own.
set +e
trap : INT
# shellcheck disable=SC2016
chroot "$new" /bin/sh -c '
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    if [ -e /caffe-fer-driver ]; then
        PATH=$PATH:/caffe-fer-driver
        export LD_LIBRARY_PATH=/caffe-fer-driver
    fi
    cd "$1" || exit 1
    shift
    exec "$@"' fer "$cwd" "$@"
exit $?
