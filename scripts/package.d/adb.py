"""apk's database format, version 3 (apk-v3(5); adb.h and apk_adb.h of apk-tools 3): writing and reading.

A file is `ADB.` and the name of a schema, then blocks padded to 8 bytes: the database, its signatures, data. Inside the database a value is
a 32-bit word: four bits of type, and the value itself or where it stands. Objects and arrays are rows of values, the first of which is
their number; what is written twice is stored once. The words are little-endian."""

import struct
import zlib

PACKAGE, INDEX = b"pckg", b"indx"
ADB, SIG, DATA = 0, 1, 2
# Types of values, in the upper four bits of their word.
INT, INT32, INT64, BLOB8, BLOB16, BLOB32, ARRAY, OBJECT = 0x1, 0x2, 0x3, 0x8, 0x9, 0xA, 0xD, 0xE
NULL = 0
# The longest payload of a block with a short header, which is all that is written here.
MAX_BLOCK = 0x3FFFFFFF - 4
# A reader's bounds: deeper or longer is no package.
MAX_DEPTH, MAX_ITEMS = 16, 1 << 16


class AdbError(ValueError):
    """What is not a database."""


class Writer:
    """A database in the making, byte for byte as apk-tools writes it in the same order."""

    def __init__(self):
        # Versions and, later, the root value.
        self.bytes = bytearray(8)
        self.stored = {}

    def blob(self, data: bytes, shared: bool = True) -> int:
        """Bytes; none at all are the null value. What is changed later must not be shared."""
        size = len(data)
        if size == 0:
            return NULL
        if size <= 0xFF:
            kind, align, head = BLOB8, 1, struct.pack("<B", size)
        elif size <= 0xFFFF:
            kind, align, head = BLOB16, 2, struct.pack("<H", size)
        else:
            kind, align, head = BLOB32, 4, struct.pack("<I", size)
        return word(kind, self.put(head + data, align, shared))

    def text(self, text: str) -> int:
        """A string."""
        return self.blob(text.encode())

    def int(self, value: int) -> int:
        """A number from 0 to 2^64 - 1."""
        if value >= 1 << 32:
            return word(INT64, self.put(struct.pack("<Q", value), 4))
        if value >= 1 << 28:
            return word(INT32, self.put(struct.pack("<I", value), 4))
        return word(INT, value)

    def object(self, slots: dict) -> int:
        """A row with the values at these places, which count from 1; null if all are."""
        last = max((at for at, value in slots.items() if value != NULL), default=0)
        return self.array([slots.get(at, NULL) for at in range(1, last + 1)])

    def array(self, values: list) -> int:
        """A row of one kind, in the order in which the reader expects it; null if empty. The format has a type of its own for
        arrays; `apk mkpkg` writes that of objects, and so does this."""
        if not values:
            return NULL
        return word(OBJECT, self.put(struct.pack(f"<{len(values) + 1}I", len(values) + 1, *values), 4))

    def put(self, data, align, shared=True):
        at = self.stored.get(data) if shared else None
        if at is not None and at % align == 0:
            return at
        self.bytes += bytes(-len(self.bytes) % align)
        at = len(self.bytes)
        self.bytes += data
        if shared:
            self.stored[data] = at
        return at

    def root(self, value: int):
        """The object that is the database."""
        self.bytes[4:8] = struct.pack("<I", value)


def word(kind, value):
    if value >= 1 << 28:
        raise AdbError("a database of 256 MiB or more")
    return kind << 28 | value


def block(kind: int, payload: bytes) -> bytes:
    """A block, padded."""
    if len(payload) > MAX_BLOCK:
        raise AdbError("a block of 1 GiB or more")
    raw = struct.pack("<I", kind << 30 | 4 + len(payload)) + payload
    return raw + bytes(-len(raw) % 8)


def container(schema: bytes, blocks: list) -> bytes:
    """The file: compressed by deflate, as `apk mkpkg` does unless it is told otherwise."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 8)
    data = b"ADB." + schema + b"".join(blocks)
    return b"ADBd" + compressor.compress(data) + compressor.flush()


def open_container(data: bytes) -> tuple:
    """The schema, and the blocks as (kind, payload).

    Raises AdbError for what is cut off, trails, or is padded with anything but zeros."""
    if data[:4] == b"ADBd":
        inflate = zlib.decompressobj(-15)
        try:
            data = inflate.decompress(data[4:])
        except zlib.error as error:
            raise AdbError(f"not deflated: {error}") from None
        if not inflate.eof or inflate.unused_data:
            raise AdbError("the compressed data is cut off, or something follows it")
    if data[:4] != b"ADB.":
        raise AdbError("no database of apk 3")
    blocks, at = [], 8
    while at < len(data):
        if at + 4 > len(data):
            raise AdbError("a block is cut off")
        (head,) = struct.unpack_from("<I", data, at)
        kind, size = head >> 30, head & 0x3FFFFFFF
        end = at + size + -size % 8
        if kind > DATA or size < 4 or end > len(data) or any(data[at + size : end]):
            raise AdbError(f"block {len(blocks)} is not valid")
        blocks.append((kind, data[at + 4 : at + size]))
        at = end
    if not blocks or blocks[0][0] != ADB or [k for k, _ in blocks] != sorted(k for k, _ in blocks):
        raise AdbError("the blocks are not a database, signatures, data in this order")
    return data[4:8], blocks


def values(database: bytes) -> list:
    """The root object as nested lists; place 0 holds nothing, so that places count from 1. Bytes, numbers and None are the leaves."""
    if len(database) < 8 or database[0] != 0:
        raise AdbError("a version of the format that is not known")
    return value_at(database, struct.unpack_from("<I", database, 4)[0], 0)


def value_at(data, packed, depth):
    kind, value = packed >> 28, packed & 0x0FFFFFFF
    try:
        if packed == NULL:
            return None
        if kind == INT:
            return value
        if kind in (INT32, INT64):
            return struct.unpack_from("<I" if kind == INT32 else "<Q", data, value)[0]
        if kind in (BLOB8, BLOB16, BLOB32):
            form = {BLOB8: "<B", BLOB16: "<H", BLOB32: "<I"}[kind]
            (size,) = struct.unpack_from(form, data, value)
            start = value + struct.calcsize(form)
            if start + size > len(data):
                raise AdbError("bytes beyond the end")
            return bytes(data[start : start + size])
        if kind in (ARRAY, OBJECT):
            (count,) = struct.unpack_from("<I", data, value)
            if not 1 <= count <= MAX_ITEMS or depth > MAX_DEPTH:
                raise AdbError("a row that is too long or too deep")
            row = struct.unpack_from(f"<{count - 1}I", data, value + 4)
            return [None] + [value_at(data, item, depth + 1) for item in row]
    except struct.error:
        raise AdbError("a value beyond the end") from None
    raise AdbError(f"a value of the unknown type {kind}")


def copy(writer: Writer, value) -> int:
    """Writes what `values` read."""
    if value is None:
        return NULL
    if isinstance(value, int):
        return writer.int(value)
    if isinstance(value, bytes):
        return writer.blob(value)
    return writer.array([copy(writer, item) for item in value[1:]])
