"""Faults that a build must survive: kills, full disks, damage, edits in between.

`make test` tries a few cases of each, `make faults` all of them.
"""
