"""Wires the stages together. The only place that knows all of them."""
