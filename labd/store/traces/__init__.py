"""Traces: SigMF files with a min/mean/max pyramid, written, read and exported."""
