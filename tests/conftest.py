"""What several tests share."""
import os

os.environ.setdefault("GLOG_minloglevel", "2")
# Two threads gain nothing on nets this small, and lose much where other work wants the processors too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
