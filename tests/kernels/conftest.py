"""Without a runner there is nothing to run here, and nothing is collected."""

from __future__ import annotations

import os

collect_ignore = [] if "NATTRACE_KERNEL_RUNNER" in os.environ else ["test_other_kernels.py"]
