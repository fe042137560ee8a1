"""What budgets are: dials, whole units, exact projections, and the loss and price of a choice."""
