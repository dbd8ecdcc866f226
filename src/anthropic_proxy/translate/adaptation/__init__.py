"""What a refusal of an upstream asks for: rules and the changes they make."""
