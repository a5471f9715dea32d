"""data"""
TYPES = {}  # type: ignore
