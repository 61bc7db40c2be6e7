"""The MLPerf Tiny text protocol, pure: lines, DUT replies, replies relayed by an I/O manager."""
