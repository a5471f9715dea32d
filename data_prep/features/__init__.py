"""Handcrafted features: face -> float32 vector."""
