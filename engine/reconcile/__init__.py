"""Compares both sides through the rules: `reconcile` gives a `Report`."""

from engine.reconcile.compare import reconcile
from engine.reconcile.report import Report

__all__ = ["Report", "reconcile"]
