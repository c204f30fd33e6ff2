"""Set up torch in a process before it trains."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import torch

__all__ = ["set_up_torch", "torch_as_it_was"]


def set_up_torch(*, threads: int, deterministic: bool) -> None:
    """Make torch compute the same bits each time in this process, as far as it can.

    Call it before the process first uses CUDA, because cuBLAS reads its setting once.

    Args:
        threads: threads on the CPU; the number decides the last bits, so it is in the config.
        deterministic: raise an error for operations without a deterministic kernel. On a CPU all
            operations used here are deterministic; on CUDA it costs some time.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _keep_freed_memory()
    torch.set_num_threads(threads)
    # use_deterministic_algorithms does the same, but also imports torch's compiler: over a second.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Filling every new tensor with NaN takes a sixth of an evaluation's time, and no operation
    # used here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.deterministic = deterministic
    # Benchmarking picks the kernel that is fastest now, and kernels differ in the last bits.
    torch.backends.cudnn.benchmark = False
    # float32 means float32: TF32 keeps 10 of its 23 bits.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


@contextlib.contextmanager
def torch_as_it_was() -> Iterator[None]:
    """At the end, restore the settings of torch that `set_up_torch` changes."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    precision, allow_tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    filling = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = benchmark
        torch.backends.cudnn.allow_tf32 = allow_tf32
        torch.utils.deterministic.fill_uninitialized_memory = filling  # pyright: ignore[reportAttributeAccessIssue]


def _keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory for the next step, where malloc is glibc's.

    By default it returns large blocks to the operating system, which then clears every page of the
    next step's tensors.
    """
    never, trim_threshold, mmap_max = 2**31 - 1, -1, -4
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, never)
        mallopt(mmap_max, 0)
