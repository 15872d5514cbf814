"""The parts of ``chord_figures.py``."""
