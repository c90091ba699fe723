"""Other libraries whose training, saving or building an insertion must survive, one file each.

A file is imported by its user, or by a checkpoint that needs it; it imports its library where that
is used.
"""
