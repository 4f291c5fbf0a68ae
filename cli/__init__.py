"""The command twinmodes."""
