"""The daemon: commands in, jobs out to stations, news to everyone who listens."""
