"""The configuration file as validated, frozen settings: `load` gives `Settings`, or one `ConfigError` with every problem of the file."""

from engine.settings.load import load
from engine.settings.model import LookupSettings, RuleSettings, SetCells, Settings, SystemSettings

__all__ = ["LookupSettings", "RuleSettings", "SetCells", "Settings", "SystemSettings", "load"]
