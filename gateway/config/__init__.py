"""The configuration: loaded, checked, compiled into the State that is in force."""
