"""losses"""
TYPES = {}  # type: ignore
