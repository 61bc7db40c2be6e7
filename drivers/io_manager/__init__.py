"""I/O managers: boards that relay the DUT's UART and time its pins."""
