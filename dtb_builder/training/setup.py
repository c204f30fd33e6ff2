"""What must be set in a process before it trains."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import torch

__all__ = ["set_up_torch", "torch_as_it_was"]


def set_up_torch(*, threads: int, deterministic: bool) -> None:
    """Make this process's torch compute the same bits each time, as far as it can.

    To be called before the process first uses CUDA, because cuBLAS reads its setting once.

    Args:
        threads: on the CPU; another number gives other bits, so it belongs in the config.
        deterministic: refuse the kernels whose result depends on the order of threads. On the
            CPU none of those are used here; on CUDA it costs some time.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _keep_freed_memory()
    torch.set_num_threads(threads)
    # As use_deterministic_algorithms, which also imports torch's compiler: a second or more.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Otherwise every new tensor is first filled with NaN, a sixth of an evaluation's time; no
    # kernel used here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.deterministic = deterministic
    # Benchmarking picks the kernel that was fastest this time, whose bits are its own.
    torch.backends.cudnn.benchmark = False
    # float32 means float32: TF32 keeps 10 of its 23 bits.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


@contextlib.contextmanager
def torch_as_it_was() -> Iterator[None]:
    """Undo at the end what `set_up_torch` changes of torch in the body."""
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
    """Have glibc's malloc reuse what a step frees, where malloc is glibc's.

    By default it gives large blocks back to the kernel, which then has to clear every page of the
    next step's maps again.
    """
    never, trim_threshold, mmap_max = 2**31 - 1, -1, -4
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, never)
        mallopt(mmap_max, 0)
