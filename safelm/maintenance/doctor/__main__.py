"""Say what a crash left behind and what is wrong around the build, one line each, with the remedy.

    python -m safelm.maintenance.doctor         what `make doctor` calls
    python -m safelm.maintenance.doctor --fix   also move left-overs to .safelm/quarantine; nothing is deleted

The exit code is 1 if something is left to be done, else 0.
"""

import argparse
import sys

from safelm.maintenance.doctor.examine import examine
from safelm.maintenance.doctor.leftovers import quarantine


def main() -> None:
    """Examine and tell."""
    parser = argparse.ArgumentParser(
        prog="python -m safelm.maintenance.doctor",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--fix", action="store_true", help="move left-overs to .safelm/quarantine")
    signs = []
    for sign in examine(parser.parse_args().fix):
        print(sign, flush=True)
        signs.append(sign)
    if not signs:
        print("nothing is wrong")
    for note in quarantine():
        print(note)
    sys.exit(any(not sign.mended for sign in signs))


if __name__ == "__main__":
    main()
