"""Reading: from files to documents. Every row is kept, dropped by name, or quarantined by reason
and offset.
"""
