"""From one's own log to a decision: a trial of alignment, the rule that decides, and the report."""
