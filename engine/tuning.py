"""Settings of the process that must stand before PyTorch is loaded."""
import ctypes
import os

# Parameters of glibc's mallopt (malloc.h), and values.
ALLOCATOR = {-4: 0,         # M_MMAP_MAX: large blocks come from the heap as well
             -1: -1,        # M_TRIM_THRESHOLD: the heap's free end is not given back
             -2: 64 << 20,  # M_TOP_PAD: the heap grows by so many bytes more than it must
             -8: 1}         # M_ARENA_MAX: the thread of the backward pass uses the same heap


def before_torch() -> None:
    """To be called once, before PyTorch and NumPy are loaded. Makes PyTorch faster on a processor, which changes no
    result, and lets a card give the same bytes each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may add in another order each time
    # PyTorch and OpenBLAS have threads of their own. By default those that have nothing to do wait in a busy loop for
    # a while, which takes the processor from the others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles
    # By default each large tensor is new memory of the kernel, whose pages must be cleared again in each pass.
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter, value in ALLOCATOR.items():
            library.mallopt(parameter, value)
