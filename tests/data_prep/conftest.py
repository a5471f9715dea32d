"""Hypothesis tries the same examples in each run, and a busy machine is no defect of an example."""
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
