"""The arithmetic of the layers: pure functions on arrays, in the arrays' own precision."""
