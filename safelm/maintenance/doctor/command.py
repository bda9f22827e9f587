"""The command `safelm doctor`: name what a crash left behind and what is wrong around the build."""

from safelm.maintenance.doctor.examine import examine
from safelm.maintenance.doctor.leftovers import quarantine


def doctor(*, fix: bool = False) -> int:
    """Print a line with the remedy for everything that is wrong.

    Args:
        fix: move leftovers to .safelm/quarantine; nothing is deleted.

    Returns:
        1 if something is left to be done, else 0.
    """
    diagnoses = []
    for diagnosis in examine(fix):
        print(diagnosis, flush=True)
        diagnoses.append(diagnosis)
    if not diagnoses:
        print("nothing is wrong")
    for note in quarantine():
        print(note)
    return int(any(not diagnosis.mended for diagnosis in diagnoses))
