"""Network definitions: builders in Python, and the generated text, which is committed."""
