"""Pretrained weights from outside: what there is, how to get it, whether a file is whole, and other formats."""
