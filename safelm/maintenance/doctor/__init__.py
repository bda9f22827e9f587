"""The doctor: leftovers of crashes and faulty settings, each named in one line with its remedy.

DVC writes its own files in place and never syncs them. Killed at the wrong moment, it cannot run
again until the right one is deleted. Each is named here, and `--fix` moves it to the quarantine.
"""
