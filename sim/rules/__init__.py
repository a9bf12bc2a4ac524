"""How rules are written: option grammars, registries of matches and targets, printing back."""
