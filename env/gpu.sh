#!/bin/sh
# Builds Debian's own Caffe with CUDA:  gpu.sh "60 70 86", the architectures of the cards.
# Runs as root in a bare Debian 11 that is thrown away afterwards, from the Dockerfile and from ../fer alike. Leaves in
# /caffe-fer-gpu what is needed besides the environment; caffe and pycaffe find their libraries there.
#   FER_DEBIAN_MIRROR  a Debian mirror to use in place of the one configured
#   FER_CA             a file of CA certificates that the network at hand needs
set -eu
here=$(cd "$(dirname "$0")" && pwd)
architectures=$1
suite=bullseye
out=/caffe-fer-gpu
# shellcheck disable=SC1091
. /etc/os-release
[ "${VERSION_CODENAME:-}" = $suite ] || { echo "gpu.sh: needs Debian 11 ($suite)" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
step() { echo "fer: $*" >&2; }

# The frozen suite, as in install.sh, with NVIDIA's toolkit (non-free) and the source packages.
list=/etc/apt/sources.list
mirror=${FER_DEBIAN_MIRROR:-$(sed -n "s/^deb \(.*\) $suite main.*/\1/p" $list | head -n 1)}
[ -n "$mirror" ] || { echo "gpu.sh: $list names no mirror with '$suite main'" >&2; exit 1; }
rm -rf "$list".d/*
printf 'deb %s %s main contrib non-free\ndeb-src %s %s main\n' "$mirror" $suite "$mirror" $suite >$list
printf 'Package: *\nPin: release n=%s\nPin-Priority: 1001\n' $suite >/etc/apt/preferences.d/caffe-fer
{
    echo 'Acquire::http::Timeout "30"; Acquire::https::Timeout "30"; Acquire::Retries "3"; APT::Install-Recommends "0"; Acquire::Languages "none";'
    echo 'APT::Update::Error-Mode "any"; APT::Keep-Downloaded-Packages "0"; APT::Sandbox::User "root";'
    [ -z "${FER_CA:-}" ] || echo "Acquire::https::CAInfo \"$FER_CA\";"
} >/etc/apt/apt.conf.d/00caffe-fer

step "packages of Debian 11 that Caffe is built with"
apt-get -q update
apt-get -qy dist-upgrade --allow-downgrades
apt-get -qy build-dep --arch-only caffe
step "CUDA, NVIDIA's toolkit of Debian 11"
apt-get -qy install nvidia-cuda-toolkit dpkg-dev patch
apt-get clean

step "the source package of Caffe"
mkdir /caffe-source
cd /caffe-source
apt-get -q source caffe
cd caffe-*/
patch -p1 <"$here/gpu.patch"
# Debian's own rules with the processor's CPU_ONLY replaced, and without its tests and examples. The libraries are
# found by a path in the programs (RPATH, which counts for the libraries of libraries too), so that Debian's own
# programs and libraries stay as they are beside them.
newest=$(echo "$architectures" | tr ' ' '\n' | sort -n | tail -n 1)
sed -i "s|-DCPU_ONLY=ON|-DCPU_ONLY=OFF -DUSE_NCCL=OFF -DCUDA_ARCH_NAME=Manual -DCUDA_ARCH_BIN=\"$architectures\" -DCUDA_ARCH_PTX=$newest -DCMAKE_SKIP_RPATH=FALSE -DCMAKE_BUILD_WITH_INSTALL_RPATH=TRUE -DCMAKE_INSTALL_RPATH=$out/lib|
    s|-Wl,--as-needed|& -Wl,--disable-new-dtags|
    s|-- caffe pycaffe test.testbin all|-- caffe caffe.bin pycaffe|" debian/rules
for word in CPU_ONLY=OFF disable-new-dtags caffe.bin; do
    grep -q -e "$word" debian/rules || { echo "gpu.sh: Debian's rules have changed: no $word" >&2; exit 1; }
done
step "Caffe with CUDA for $architectures"
DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" debian/rules build-arch

step "last checks"
rm -rf $out
mkdir -p $out/bin $out/lib $out/python $out/etc $out/copyright
cp caffe_cpu_build/tools/caffe $out/bin/
cp caffe_cpu_build/lib/libcaffe.so.1.0.0 $out/lib/libcaffe.so.1
cp caffe_cpu_build/lib/_caffe.so $out/python/
strip --strip-unneeded $out/bin/caffe $out/lib/libcaffe.so.1 $out/python/_caffe.so
# What it needs of CUDA at run time.
ldd $out/lib/libcaffe.so.1 | sed -n 's|^[^/]*\(lib\(cudart\|cublas\|cublasLt\|curand\)\.so[.0-9]*\) => \([^ ]*\) .*|\1 \3|p' |
    while read -r name path; do
        cp -L "$path" "$out/lib/$name"
        package=$(dpkg -S "$(readlink -f "$path")" | sed 's/:.*//')
        cp "/usr/share/doc/$package/copyright" "$out/copyright/$package"
    done
cp debian/copyright $out/copyright/caffe
for name in libcudart.so.11.0 libcublas.so.11 libcublasLt.so.11 libcurand.so.10; do
    [ -s "$out/lib/$name" ] || { echo "gpu.sh: libcaffe does not use $name" >&2; exit 1; }
done
$out/bin/caffe --version
{
    echo "key $(cat "$here/gpu.sh" "$here/gpu.patch" | sha256sum | cut -c1-16)"
    echo "architectures $(echo "$architectures" | tr ' ' ',')"
    echo "caffe $(dpkg-parsechangelog -S Version)"
    dpkg-query -W -f '${Package} ${Version}\n' nvidia-cuda-toolkit
} >$out/etc/caffe-fer
chmod -R a+rX $out
