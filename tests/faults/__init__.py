"""What a build must survive: kills, full disks, damage, edits in between. A few cases of each;
`make faults`: all.
"""
