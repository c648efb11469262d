"""The live demonstration: `session` is what happens, `page` what a browser shows of it. ``hare demo`` starts it."""
