"""``course run`` and ``course verify``: chapters executed, their numbers collected and compared."""
