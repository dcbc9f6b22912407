"""The configuration: loaded, checked, and compiled into the State in force."""
