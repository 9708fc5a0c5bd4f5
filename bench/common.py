"""What the workers share: the loop that answers, and peak memory."""

from __future__ import annotations

import json
import resource
import sys
import time


def serve(call):
    """For each line on stdin run `call` once and print how long it took and the peak memory so far."""
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "peak_gb": peak}), flush=True)
