"""The Retouch tool of the studio, for the networks that installed papers contribute."""
