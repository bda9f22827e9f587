"""A fault in a process that others start: Python reads this file from a folder in PYTHONPATH."""

import atexit
import json
import os
import sys
from pathlib import Path

if "SAFELM_FAULT" in os.environ and "dvc" in sys.orig_argv:
    from tests.faults.inject import Fault, Injector

    injector = Injector(Fault(**json.loads(os.environ["SAFELM_FAULT"]))).install()
    atexit.register(
        lambda: Path(os.environ["SAFELM_FAULT_LOG"]).write_text("\n".join(injector.operations))
    )
