"""Memory that one batch frees is what the next one takes: on Linux it is kept, not given back in between."""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for this process until it ends; False, and nothing done, with any other C library.

    By default a block of more than 32 MiB, such as a layer's activations, goes back to the system when it is freed, and the next
    batch pays for every page of it again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, NEVER))
