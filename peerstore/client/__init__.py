"""The user's API: backup, restore, history, local state."""
