#!/bin/sh
# Builds Debian's own Caffe with CUDA:  gpu.sh "60 70 86", the architectures of the cards.
# Runs as root in a bare Debian 11 that is thrown away afterwards, from the Dockerfile and from ../fer alike. Leaves in
# /caffe-fer-gpu what is needed besides the environment; caffe and pycaffe find their libraries there.
# apt.sh describes its variables.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=env/apt.sh
. "$here/apt.sh"
architectures=$1
out=/caffe-fer-gpu

step "packages of Debian 11 that Caffe is built with"
use_suite "deb main contrib non-free" "deb-src main"
apt-get -qy build-dep --arch-only caffe
step "CUDA, NVIDIA's toolkit of Debian 11"
apt-get -qy install nvidia-cuda-toolkit dpkg-dev patch patchelf
apt-get clean

step "the source package of Caffe"
mkdir /caffe-source
cd /caffe-source
apt-get -q source caffe
cd caffe-*/
patch -p1 <"$here/gpu.patch"
# Debian's own rules with the processor's CPU_ONLY replaced, and without its tests and examples.
newest=$(echo "$architectures" | tr ' ' '\n' | sort -n | tail -n 1)
sed -i "s|-DCPU_ONLY=ON|-DCPU_ONLY=OFF -DUSE_NCCL=OFF -DCUDA_ARCH_NAME=Manual -DCUDA_ARCH_BIN=\"$architectures\" -DCUDA_ARCH_PTX=$newest|
    s|-- caffe pycaffe test.testbin all|-- caffe caffe.bin pycaffe|" debian/rules
for word in CPU_ONLY=OFF caffe.bin; do
    grep -q -e "$word" debian/rules || fail "Debian's rules have changed: no $word"
done
step "Caffe with CUDA for $architectures"
DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" debian/rules build-arch

step "last checks"
rm -rf $out
mkdir -p $out/bin $out/lib $out/python $out/etc $out/copyright
cp caffe_cpu_build/tools/caffe $out/bin/
cp caffe_cpu_build/lib/libcaffe.so.1.0.0 $out/lib/
cp caffe_cpu_build/lib/_caffe.so $out/python/
strip --strip-unneeded $out/bin/caffe $out/lib/libcaffe.so.1.0.0 $out/python/_caffe.so
# What it needs of CUDA at run time.
for name in libcudart.so.11.0 libcublas.so.11 libcublasLt.so.11 libcurand.so.10; do
    path=$(ldd $out/lib/libcaffe.so.1.0.0 | sed -n "s|^[[:space:]]*$name => \([^ ]*\) .*|\1|p")
    [ -n "$path" ] || fail "libcaffe does not use $name"
    cp -L "$path" $out/lib/
    package=$(dpkg -S "$(readlink -f "$path")" | sed 's/:.*//')
    cp "/usr/share/doc/$package/copyright" "$out/copyright/$package"
done
# The path of these libraries stands in the programs, so that Debian's own programs and libraries stay as they are
# beside them. RPATH, unlike the newer RUNPATH, counts for the libraries of a library too.
patchelf --force-rpath --set-rpath $out/lib $out/bin/caffe $out/lib/libcaffe.so.1.0.0 $out/python/_caffe.so
cp debian/copyright $out/copyright/caffe
$out/bin/caffe --version
{
    echo "key $(cat "$here/apt.sh" "$here/gpu.sh" "$here/gpu.patch" | sha256sum | cut -c1-16)"
    echo "architectures $(echo "$architectures" | tr ' ' ',')"
    echo "caffe $(dpkg-parsechangelog -S Version)"
    dpkg-query -W -f '${Package} ${Version}\n' nvidia-cuda-toolkit
} >$out/etc/caffe-fer
chmod -R a+rX $out
