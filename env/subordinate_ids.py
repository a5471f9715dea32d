"""Subordinate ids of an ordinary user, which an environment is built under."""
import os
import pwd

FILES = ("/etc/subuid", "/etc/subgid")
COUNT = 65536  # the ids of a Debian
FIRST, USERS = 10**7, 60000  # the ranges that are advised: one for each user number, and all below 2**32


def advice(files=FILES):
    """What root has to do so that this user can build an environment; None where nothing is to do.

    An entry of `files` is NAME:FIRST:COUNT, where NAME may be the user's number."""
    uid = os.geteuid()
    user = pwd.getpwuid(uid).pw_name
    taken = []
    lacking = False
    for name in files:
        entries = read(name)
        taken += [(first, count) for _, first, count in entries]
        lacking |= not any(owner in (user, str(uid)) and count >= COUNT for owner, _, count in entries)
    if not lacking:
        return None
    first = FIRST + uid % USERS * COUNT
    while any(first < other + count and other < first + COUNT for other, count in taken):
        first += COUNT
    span = "%d-%d" % (first, first + COUNT - 1)
    return "usermod --add-subuids %s --add-subgids %s %s" % (span, span, user)


def read(name):
    """The entries of a file; none where it is missing."""
    try:
        with open(name) as f:
            lines = [line.strip().split(":") for line in f]
    except OSError:
        return []
    return [(line[0], int(line[1]), int(line[2])) for line in lines
            if len(line) == 3 and line[1].isdigit() and line[2].isdigit()]
