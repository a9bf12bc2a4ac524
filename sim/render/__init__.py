"""From an answer to text or JSON; decides nothing."""
