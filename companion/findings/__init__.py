"""Tables and sentences that answer one question each."""
