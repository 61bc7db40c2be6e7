"""The journal: every job, run, event and result, in SQL."""
