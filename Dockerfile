# The environment that ./fer makes by itself, for those who have Docker (docs/installation.md):
#   docker build -t caffe-fer .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/caffe-fer" caffe-fer ./fer demo
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/caffe-fer" caffe-fer caffe train -solver ...
# With Caffe for NVIDIA's cards (docs/gpu.md):
#   docker build --target gpu -t caffe-fer-gpu .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/caffe-fer" caffe-fer-gpu caffe train -gpu 0 -solver ...
FROM debian:bullseye-slim AS processor
WORKDIR /caffe-fer
# Only what decides about the content, so that other edits don't make it again.
COPY env/apt.txt env/pip.txt env/dpkg.cfg env/apt.sh env/install.sh env/
# --build-arg NAME=... names another mirror, another index of Python packages, and a host that it trusts.
# --secret id=ca,src=FILE gives the certificates of a network that has its own, id=keyring more keys of Debian's archive.
ARG FER_DEBIAN_MIRROR
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
RUN --mount=type=secret,id=ca,mode=0444 --mount=type=secret,id=keyring,mode=0444 env/install.sh
ENV PYTHONPATH=/caffe-fer PYTHONNOUSERSITE=1 LC_ALL=C.UTF-8 MPLCONFIGDIR=/caffe-fer-cache
COPY . .
# As process 1, a program ignores signals that it does not handle: Caffe would hang where a layer fails. The launcher
# sets the variables of each command: the kernel of OpenBLAS, HOME.
ENTRYPOINT ["tini", "--", "/caffe-fer/fer", "--in-image"]
CMD ["./fer", "--help"]

FROM debian:bullseye-slim AS gpu-build
COPY env/apt.sh env/gpu.sh env/gpu.patch env/
ARG FER_DEBIAN_MIRROR
# The compute capabilities of the cards, without their dots.
ARG FER_GPU_ARCH="60 70 75 80 86"
RUN --mount=type=secret,id=ca,mode=0444 --mount=type=secret,id=keyring,mode=0444 env/gpu.sh "$FER_GPU_ARCH"

FROM processor AS gpu
COPY --from=gpu-build /caffe-fer-gpu /caffe-fer-gpu
RUN ln -sf /caffe-fer-gpu/bin/caffe /usr/bin/caffe && \
    ln -sf /caffe-fer-gpu/python/_caffe.so /usr/lib/python3/dist-packages/caffe/_caffe.*.so
# What --gpus takes into the container.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Without --target.
FROM processor
