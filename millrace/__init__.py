"""The command line: the one composition root."""

from millrace.kernel_cache import use_kernel_cache

use_kernel_cache()
