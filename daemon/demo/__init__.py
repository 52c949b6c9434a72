"""Stand-ins for Slack, mail and the model: what `postroom demo` and the tests talk to."""
