"""A compressed text file that is readable while it grows, and after a kill -9.

Each write ends at a byte boundary of the gzip stream (``Z_SYNC_FLUSH``), so that everything
written can be decompressed; only the trailer is missing then. ``zcat`` prints such a file and
complains about its end, :func:`read_compressed_log` does not.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from labd.store.traces.pyramid import write_all

GZIP = 31
"""``wbits`` of zlib for a gzip header and trailer."""


class CompressedLog:
    """A compressed file being written; every method blocks on the disk.

    Args:
        path: of the file; its folder is created.

    Raises:
        FileExistsError: the file exists: evidence is not overwritten.
        OSError: here and in every method, if a disk operation fails.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb", buffering=0)
        self._compressor = zlib.compressobj(wbits=GZIP)
        self._broken: OSError | None = None

    def write(self, text: str) -> None:
        """Append text; it can be read from now on."""
        if self._broken is not None:
            raise self._broken
        data = self._compressor.compress(text.encode())
        self._append(data + self._compressor.flush(zlib.Z_SYNC_FLUSH))

    def close(self) -> None:
        """Complete the file; safe to call twice."""
        if self._file.closed:
            return
        try:
            if self._broken is None:
                self._append(self._compressor.flush(zlib.Z_FINISH))
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def _append(self, data: bytes) -> None:
        """Write bytes of the stream; after a part of them nothing can follow."""
        try:
            write_all(self._file, data)
        except OSError as error:
            self._broken = error
            raise


def read_compressed_log(path: Path) -> str:
    """Return what a compressed log holds, also if it was not closed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no gzip file.
    """
    try:
        return zlib.decompressobj(wbits=GZIP).decompress(path.read_bytes()).decode(errors="replace")
    except zlib.error as error:
        raise ValueError(f"{path} is no gzip file: {error}") from error
