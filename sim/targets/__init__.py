"""Actions: one module per target, named as ``-j`` names it in lower case (``SET`` lives in ``set_``)."""
