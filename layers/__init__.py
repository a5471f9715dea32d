"""Caffe Python layers, one file a layer; their arithmetic is in `functions`, without Caffe."""
