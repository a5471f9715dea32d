"""Benchmarks. Most of them compare two ways to do the same in one call."""
import os

# Before Caffe is loaded: it would print messages about each net.
os.environ.setdefault("GLOG_minloglevel", "2")
