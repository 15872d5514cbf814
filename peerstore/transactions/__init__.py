"""The user's log: entries, per-device chains, merge, the folder at any moment."""
