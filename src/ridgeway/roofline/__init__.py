"""What the hardware allows and what a weight stream costs: ceilings, cost model, reports, card and plot."""
