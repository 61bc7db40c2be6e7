"""Persistent data: the journal of jobs, and the files beside it."""
