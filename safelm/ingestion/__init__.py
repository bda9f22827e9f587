"""Files to documents: every row is kept, dropped by name, or quarantined with reason and offset."""
