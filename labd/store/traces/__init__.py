"""Traces: SigMF files with a pyramid, written, read and exported."""
