"""Zip files whose bytes depend on nothing but the contents."""

import datetime
import stat

import stream_zip
import zopfli.zlib

# The earliest time that a zip file can hold.
TIME = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)
# Of a zlib stream, these bytes stand before and after what a zip file holds.
ZLIB_HEADER, ZLIB_TRAILER = 2, 4


class Compressor:
    """Compresses like an object of `zlib.compressobj`, but with zopfli. zlib differs between machines."""

    def __init__(self):
        self.chunks = []

    def compress(self, chunk):
        self.chunks.append(bytes(chunk))
        return b""

    def flush(self):
        return zopfli.zlib.compress(b"".join(self.chunks), numiterations=5)[ZLIB_HEADER:-ZLIB_TRAILER]


def write(path, members):
    """Writes a zip file of `{name: (content, permissions)}`."""
    entries = ((name, TIME, stat.S_IFREG | mode, stream_zip.ZIP_32, [content]) for name, (content, mode) in sorted(members.items()))
    path.write_bytes(b"".join(stream_zip.stream_zip(entries, get_compressobj=Compressor, extended_timestamps=False)))
