"""Beds on clusters that somebody has: what scenarios do there is done through their API servers alone."""
