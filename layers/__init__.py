"""Caffe Python layers, one kind in each file. Their arithmetic is in `functions`, which does not need Caffe."""
