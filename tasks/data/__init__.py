"""What comes into a store from its sources, and what leaves it."""
