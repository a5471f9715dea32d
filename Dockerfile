# The environment that ./fer makes by itself, for those who have Docker:
#   docker build -t caffe-fer .
#   docker run --rm -v "$PWD:/caffe-fer" caffe-fer ./fer demo
#   docker run --rm -v "$PWD:/caffe-fer" caffe-fer caffe train -solver ...
FROM debian:bullseye-slim
WORKDIR /caffe-fer
# Only what decides about the content, so that other edits don't make it again.
COPY env/apt.txt env/pip.txt env/dpkg.cfg env/install.sh env/
# --build-arg FER_DEBIAN_MIRROR=... names another mirror.
ARG FER_DEBIAN_MIRROR
RUN env/install.sh
ENV PYTHONPATH=/caffe-fer PYTHONNOUSERSITE=1 LC_ALL=C.UTF-8 MPLCONFIGDIR=/caffe-fer-cache
COPY . .
CMD ["./fer", "--help"]
