"""The commands that administer keys and look at usage: click's declarations, and the work behind them."""
