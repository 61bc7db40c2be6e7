"""Reading FlatBuffers tables, without a schema compiler."""

import struct


class FlatBufferError(ValueError):
    """The bytes are not the FlatBuffer they claim to be."""


def scalar(data: bytes, at: int, kind: str) -> int | float:
    """One little-endian scalar; `kind` is a `struct` format character."""
    try:
        return struct.unpack_from("<" + kind, data, at)[0]
    except struct.error as error:
        raise FlatBufferError(f"it ends before byte {at}") from error


class Table:
    """A table; fields are numbered as in the schema, absent ones give their default."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - int(scalar(data, at, "i"))
        if self._vtable < 0:
            raise FlatBufferError("a table has no vtable")
        self._vtable_size = int(scalar(data, self._vtable, "H"))

    @classmethod
    def root(cls, data: bytes) -> "Table":
        """The table a file begins with."""
        return cls(data, int(scalar(data, 0, "I")))

    def _field(self, index: int) -> int | None:
        entry = 4 + 2 * index
        if entry >= self._vtable_size:
            return None
        offset = int(scalar(self._data, self._vtable + entry, "H"))
        return self._at + offset if offset else None

    def _target(self, index: int) -> int | None:
        field = self._field(index)
        return None if field is None else field + int(scalar(self._data, field, "I"))

    def number(self, index: int, kind: str, default: float = 0) -> int | float:
        """A scalar field."""
        field = self._field(index)
        return default if field is None else scalar(self._data, field, kind)

    def integer(self, index: int, kind: str, default: int = 0) -> int:
        """A scalar field of an integer kind."""
        return int(self.number(index, kind, default))

    def table(self, index: int) -> "Table | None":
        """A table field."""
        target = self._target(index)
        return None if target is None else Table(self._data, target)

    def vector(self, index: int, kind: str) -> tuple:
        """A vector of scalars; empty when absent."""
        target = self._target(index)
        if target is None:
            return ()
        count = int(scalar(self._data, target, "I"))
        try:
            return struct.unpack_from(f"<{count}{kind}", self._data, target + 4)
        except struct.error as error:
            raise FlatBufferError("a vector reaches past the end") from error

    def octets(self, index: int) -> bytes:
        """A vector of bytes."""
        target = self._target(index)
        if target is None:
            return b""
        count = int(scalar(self._data, target, "I"))
        if target + 4 + count > len(self._data):
            raise FlatBufferError("a vector reaches past the end")
        return self._data[target + 4 : target + 4 + count]

    def text(self, index: int) -> str:
        """A string field."""
        return self.octets(index).decode("utf-8", "replace")

    def tables(self, index: int) -> list["Table"]:
        """A vector of tables."""
        target = self._target(index)
        if target is None:
            return []
        count = int(scalar(self._data, target, "I"))
        if target + 4 + 4 * count > len(self._data):
            raise FlatBufferError("a vector reaches past the end")
        places = [target + 4 + 4 * k for k in range(count)]
        return [Table(self._data, at + int(scalar(self._data, at, "I"))) for at in places]
