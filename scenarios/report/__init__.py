"""What a run says in numbers and text."""
