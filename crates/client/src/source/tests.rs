//! Sources against what was written to them.
