"""The daemon: requests in, jobs out to stations, events to every subscriber."""
