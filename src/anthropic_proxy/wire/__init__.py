"""What travels: shapes and framing of both protocols. No behaviour, and no import of anything else of ours."""
