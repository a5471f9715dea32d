"""Trains the same prototxts as Caffe, with the same files, on PyTorch. Needs no pycaffe."""
