"""The commands: click's declarations, and the work behind them."""
