"""BPF ring buffers read straight from memory: every batch is one numpy array, no call for each record.

The layout is that of kernel/bpf/ringbuf.c: a page with the reader's position, a page with the writer's, and the data
mapped twice in a row, so that a record that wraps is contiguous. Every record has 8 octets in front; its first word
holds the length, bit 31 while it is being written, and bit 30 if it was given up.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Ring:
    """A ring buffer of records of one type."""

    def __init__(self, fd: int, size: int, record: np.dtype) -> None:
        self.size = size
        self._reader = mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._data = mmap.mmap(fd, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        self._position = ctypes.c_uint64.from_buffer(self._reader)
        self._written = np.frombuffer(self._data, "<u8", 1)
        self.stride = (8 + record.itemsize + 7) & ~7
        self._record = np.dtype(
            {"names": ["head", "event"], "formats": ["<u4", record], "offsets": [0, 8], "itemsize": self.stride}
        )

    def pending(self) -> int:
        """Records not read yet."""
        return (int(self._written[0]) - self._position.value) // self.stride

    def read(self, most: int = 1 << 18) -> npt.NDArray[Any] | None:
        """The next records, copied; None if there are none. Their order is that of being reserved."""
        at = self._position.value
        count = min((int(self._written[0]) - at) // self.stride, most)
        if not count:
            return None
        view = np.frombuffer(self._data, self._record, count, PAGE + (at & (self.size - 1)))
        heads = view["head"]
        flags = heads & np.uint32(BUSY | DISCARDED)
        given_up = None
        if flags.any():
            busy = (flags & np.uint32(BUSY)) != 0
            if busy.any():
                count = int(busy.argmax())
                if not count:
                    return None
            given_up = (flags[:count] & np.uint32(DISCARDED)) != 0
        events = view["event"][:count]
        copy: npt.NDArray[Any] = events[~given_up] if given_up is not None and given_up.any() else events.copy()
        self._position.value = at + count * self.stride
        return copy

    def close(self) -> None:
        """Unmap; views that were handed out are copies and stay."""
        del self._position, self._written
        self._reader.close()
        self._data.close()
