"""How sets of songs lie on disk: a module a layout, with `recognize`, whether a root has it, and `find`, its rows."""
