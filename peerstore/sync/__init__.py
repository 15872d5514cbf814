"""A folder kept equal on all of a user's computers."""
