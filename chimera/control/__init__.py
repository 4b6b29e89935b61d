"""Mission Control: the desk in the browser. It reads read models, and writes only through the command service."""
