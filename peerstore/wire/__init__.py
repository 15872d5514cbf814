"""Bytes to frames to typed values, without I/O: the protocol's pure core."""
