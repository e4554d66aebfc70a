"""The options, the error handling and the shared code of the commands; nothing below imports click."""
