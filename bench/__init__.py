"""Measurements, each against something else in the same run."""
import os

# Before Caffe is loaded: its own chatter, on each net that is made.
os.environ.setdefault("GLOG_minloglevel", "2")
