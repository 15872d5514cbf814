"""Twisted's side of the wire: protocols, factories, pools of connections."""
