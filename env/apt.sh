# shellcheck shell=sh disable=SC2034
# What install.sh and gpu.sh share: packages come from the frozen suite alone. They source this, in a Debian 11, as root.
#   FER_DEBIAN_MIRROR   a Debian mirror to use in place of the one configured
#   FER_CA              a file of CA certificates that the network at hand needs
#   FER_DEBIAN_KEYRING  a file of more keys that may sign the mirror's suite
# A build of Docker's image gives these files as secrets, called ca and keyring.
suite=bullseye
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
step() { echo "fer: $*" >&2; }
fail() { echo "E: $*" >&2; exit 1; }
secret() { [ ! -e "/run/secrets/$1" ] || echo "/run/secrets/$1"; }
FER_CA=${FER_CA:-$(secret ca)}
FER_DEBIAN_KEYRING=${FER_DEBIAN_KEYRING:-$(secret keyring)}
apt_conf=/etc/apt/apt.conf.d/00caffe-fer
trusted=

# use_suite "TYPE SECTIONS"...: with a line for each in apt's list of sources, fetches the lists of packages and brings
# the system to the versions of the suite.
# It is frozen, so every machine gets the same bytes, now and in some years, and trained weights can be compared bit for
# bit. Its -security and -updates companions move. A base image that has them goes back to the suite's versions
# (priority above 1000: apt may downgrade).
use_suite() {
    # shellcheck disable=SC1091
    [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = $suite ] || fail "this is not Debian 11 ($suite)"
    list=/etc/apt/sources.list
    mirror=${FER_DEBIAN_MIRROR:-$(sed -n "s/^deb \(\[[^]]*\] \)\?\(.*\) $suite main.*/\2/p" $list | head -n 1)}
    [ -n "$mirror" ] || fail "$list names no mirror with '$suite main'"
    rm -rf "$list".d/*
    for line in "$@"; do
        echo "${line%% *} $mirror $suite ${line#* }"
    done >$list
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 1001\n' $suite >/etc/apt/preferences.d/caffe-fer
    {
        # A network that hangs is to be an error within minutes.
        echo 'Acquire::http::Timeout "30"; Acquire::https::Timeout "30"; Acquire::Retries "3";'
        # A list that could not be fetched is an error, not a warning.
        echo 'APT::Update::Error-Mode "any"; APT::Install-Recommends "0"; Acquire::Languages "none";'
        # A user of apt's own may not read the files or write the folders of a build. Packages are needed once.
        echo 'APT::Sandbox::User "root"; APT::Keep-Downloaded-Packages "0";'
        [ -z "$FER_CA" ] || echo "Acquire::https::CAInfo \"$FER_CA\";"
    } >$apt_conf
    if [ -n "$FER_DEBIAN_KEYRING" ]; then  # apt tells the two forms of a keyring apart by the file's name
        trusted=/etc/apt/trusted.gpg.d/caffe-fer.gpg
        ! grep -q "^-----BEGIN" "$FER_DEBIAN_KEYRING" || trusted=${trusted%.gpg}.asc
        install -m 644 "$FER_DEBIAN_KEYRING" "$trusted"
    fi
    apt-get -q update || fail "the mirror cannot be reached, has no Debian 11 any more, or its signature has expired:" \
        "set FER_DEBIAN_MIRROR, for example to Debian's archive, or FER_DEBIAN_KEYRING; see docs/installation.md"
    apt-get -qy dist-upgrade --allow-downgrades
}
