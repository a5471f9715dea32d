"""elementwise"""
TYPES = {}  # type: ignore
