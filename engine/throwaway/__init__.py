"""Throwaway database servers for the demo, the tests and the benchmarks: `servers` is the entrance, the rest are its parts."""
