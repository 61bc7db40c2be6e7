"""The command lines: labd for the daemon, labctl for those who use the lab."""
