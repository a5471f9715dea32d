"""The arithmetic of the layers: pure functions of arrays. The results have the dtype of the arrays."""
