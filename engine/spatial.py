"""spatial"""
TYPES = {}  # type: ignore
