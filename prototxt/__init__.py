"""Network definitions: builders in Python, and the text that they generate, committed."""
