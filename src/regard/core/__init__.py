"""What every mechanism is built on: cards, base classes, named axes, checks."""
