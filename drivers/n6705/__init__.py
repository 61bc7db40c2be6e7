"""Keysight N6705 DC power analyser."""
