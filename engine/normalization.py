"""normalization"""
TYPES = {}  # type: ignore
