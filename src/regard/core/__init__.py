"""What every mechanism stands on: the card, the form, the shape language, the checks."""
