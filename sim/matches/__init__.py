"""Criteria: one module per match, named as ``-m`` names it (``set`` lives in ``set_``)."""
