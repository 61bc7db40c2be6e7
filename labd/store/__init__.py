"""What outlives the daemon: the journal of jobs, and the files beside it."""
