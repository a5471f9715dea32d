"""shapes"""
TYPES = {}  # type: ignore
