"""Click options and error handling shared by the commands; nothing below imports click."""
