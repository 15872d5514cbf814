"""Renames that never destroy what is at the new name.

A plain rename replaces whatever is there by then, also what another program
wrote a moment ago.  Linux can do better (``renameat2``, since 3.15): refuse
when the new name is taken, or exchange the two names in one step, after which
what was there can be looked at in peace.  File systems that cannot do it get
the next best.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

__all__ = ["exchange", "rename_new"]

_NOREPLACE = 1
_EXCHANGE = 2
#: What a kernel or file system answers that does not know the flag.
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def _load() -> Any:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        function.restype = ctypes.c_int
    return function


_renameat2 = _load()


def _call(old: bytes, new: bytes, old_folder: int, new_folder: int, flags: int) -> bool:
    """Whether it was done; false when this system cannot."""
    if _renameat2 is None:
        return False
    if _renameat2(old_folder, old, new_folder, new, flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number))


def rename_new(old: bytes, new: bytes, old_folder: int, new_folder: int) -> None:
    """Rename, both names below directory handles, to a name that is free.

    :raises FileExistsError: when it is not.
    """
    if _call(old, new, old_folder, new_folder, _NOREPLACE):
        return
    try:
        os.stat(new, dir_fd=new_folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def exchange(old: bytes, new: bytes, old_folder: int, new_folder: int) -> bool:
    """Let two names change places in one step.

    :return: false, with nothing done, where the system cannot.
    :raises FileNotFoundError: when one of them is not there.
    """
    return _call(old, new, old_folder, new_folder, _EXCHANGE)
