"""Reuse of freed heap memory within the process (glibc)."""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Keep freed heap memory in the process until it ends (glibc), so that the next batch reuses it; return whether this was set.

    By default glibc returns a freed block of more than 32 MiB, such as a layer's activations, to the system, and the next batch pays for
    every page of it again. This changes malloc for the whole process, so it is for programs, such as the command line; no library call
    does it. With another C library nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, NEVER))
