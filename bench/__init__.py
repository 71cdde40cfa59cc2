"""Measurements. Not part of the wheel; see README.md beside this file."""
