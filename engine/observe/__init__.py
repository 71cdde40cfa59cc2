"""What people and programs can see of a running engine: log, progress, status."""
