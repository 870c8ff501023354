"""Networks that are called with arrays: what frontends for files and such frameworks share."""
