"""python_layer"""
TYPES = {}  # type: ignore
