"""Chord, as corrected by Zave: positions, fingers, lookups, upkeep, placement."""
