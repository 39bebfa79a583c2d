"""Backends: what carries a plan out."""
