"""Joulescope JS220 and JS110."""
