#!/bin/sh
# Checks and measures the engine on a graphics card, in eight minutes. It needs Python 3.10 or later with PyTorch, NumPy,
# protobuf and lmdb, and nothing else: no Caffe, no data, no network, no root. `bench/gpu.sh --help` shows the options,
# and PYTHON names another Python. docs/engine.md has more.
set -eu
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "bench/gpu.sh: there is no $python; set PYTHON to a Python 3.10 or later" >&2
    exit 1
fi
"$python" - <<'END'
import importlib.util
import sys

if sys.version_info < (3, 10):
    sys.exit(f"bench/gpu.sh: Python {sys.version.split()[0]}, expected 3.10 or later; set PYTHON to another one")
names = {"torch": "torch", "numpy": "numpy", "google.protobuf": "protobuf", "lmdb": "lmdb"}


def found(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


missing = [package for name, package in names.items() if not found(name)]
if missing:
    sys.exit(f"bench/gpu.sh: not installed in {sys.executable}: {', '.join(missing)}; python3 -m pip install "
             + " ".join(missing))
END
CALLED_FROM=$PWD  # where the path of --out begins
export CALLED_FROM
cd "$(dirname "$0")/.."
exec "$python" -m bench.gpu "$@"
