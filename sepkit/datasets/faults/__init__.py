"""Faults of songs, found in what was measured: of files, of songs, of sets of songs."""
