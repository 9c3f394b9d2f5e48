"""What the sources of a version are compiled to: by the runtime's interpreter, for all tasks, out of their reach.

Tasks can't keep what they compile: a later task would run it, whatever it was compiled from.
"""
