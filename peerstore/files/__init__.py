"""Chunks, manifests, heads, names and paths; no I/O of its own."""
